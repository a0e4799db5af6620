"""Unattended rendering: the server, its worker, submissions and nightly schedules."""
