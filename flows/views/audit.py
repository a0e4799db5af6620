"""The result of an audit in the terminal."""

from rich.console import Console
from rich.table import Table

from storyreel.flows.audit.problems import Audit
from storyreel.flows.views.terminal import plain


def show_audit(audit: Audit, console: Console) -> None:
    """Print the problems, if any, and the counts."""
    if audit.problems:
        table = Table("kind", "place", "problem")
        for problem in audit.problems:
            table.add_row(*map(plain, (problem.kind, problem.place, problem.message)))
        console.print(table)
    console.print(str(audit), highlight=False)
