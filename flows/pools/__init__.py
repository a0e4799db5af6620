"""Pools of actors for the time of a command: splitting stories, scoring a job."""
