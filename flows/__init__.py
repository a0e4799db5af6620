"""Prefect flows and the command line: the order in which a job's work is done."""
