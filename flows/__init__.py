"""What runs, in what order, and what the Prefect UI shows; the command line."""
