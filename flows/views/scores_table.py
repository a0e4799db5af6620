"""The scores of a job as people read them in a terminal."""

from rich.console import Console
from rich.table import Table

from storyreel.flows.run.evaluate import Evaluation
from storyreel.stages.scoring.measures.bootstrap import MeanEstimate

COLUMNS = ("of", "figure", "mean", "95 % interval", "rows (stories)")


def show_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Print the means with their intervals, and what could not be scored and why."""
    console.print(_means_table(evaluation))
    if evaluation.frechet is not None:
        found = evaluation.frechet
        counts = f"{found.num_keyframes} keyframes, {found.num_references} reference pictures"
        console.print(f"Frechet distance {found.distance:.4f} ({counts})", highlight=False)
    console.print(
        f"{evaluation.num_stories} stories scored{_left_out(evaluation)}", highlight=False
    )


def _means_table(evaluation: Evaluation) -> Table:
    table = Table(*COLUMNS, title="means; intervals by bootstrap over stories")
    for name, means in evaluation.means.items():
        of = name.removeprefix("scores_")
        for figure, estimate in means.items():
            table.add_row(of, figure, *_cells(estimate))
        table.add_section()
    return table


def _cells(estimate: MeanEstimate | None) -> tuple[str, ...]:
    if estimate is None:
        return "-", "-", "0"
    low, high = estimate.low, estimate.high
    interval = "-" if low is None or high is None else f"{low:.4f}, {high:.4f}"
    return f"{estimate.mean:.4f}", interval, f"{estimate.count} ({estimate.num_groups})"


def _left_out(evaluation: Evaluation) -> str:
    reasons = {
        f"{len(evaluation.unfinished)} shards are not rendered yet": evaluation.unfinished,
        f"{evaluation.num_failures} stories have no film": evaluation.num_failures,
        f"{evaluation.num_removed} stories' keyframes were removed": evaluation.num_removed,
    }
    return "".join(f"; {reason}" for reason, count in reasons.items() if count)
