"""`python -m storyreel` is the `storyreel` command."""

from storyreel.flows.commands.cli import main

main()
