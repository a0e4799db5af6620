"""Unattended rendering: `serve` and its worker, submissions, nightly schedules, approvals."""
