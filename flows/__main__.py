"""`python -m flows` is the `storyreel` command."""

from flows.cli import main

main()
