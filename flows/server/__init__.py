"""The server of one machine: Prefect's API and UI behind a password, from their own origin only."""
