"""What the terminal shows of a job: what it has come to, how far it is, and what failed."""

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from rich.console import Console
from rich.table import Table

from flows.gallery import INDEX
from flows.job import Job
from flows.progress import duration
from flows.status import JobStatus
from flows.summary import Summary
from stages.records import Failure


def show_summary(job: Job, summary: Summary, console: Console) -> None:
    """Print where films, sheets and manifests are, and what failed and why."""
    if summary.num_films:
        console.print(_films_table(summary))
        where = ", ".join(job.output.location(place) for place in ("films", INDEX))
        console.print(f"films and a page that shows them: {where}", highlight=False, soft_wrap=True)
    if summary.num_failures:
        console.print(_failures_table(summary.first_failures))
    for kept, count, kind in (
        (summary.newest_films, summary.num_films, "films"),
        (summary.first_failures, summary.num_failures, "failures"),
    ):
        if len(kept) < count:
            console.print(f"{len(kept)} of {count} {kind} are listed", highlight=False)
    manifests = job.output.location("manifests")
    console.print(f"{summary}; manifests: {manifests}", highlight=False, soft_wrap=True)


def show_status(status: JobStatus, console: Console) -> None:
    """Print how far a job is, who works on it, and what failed."""
    who = f", by {status.holder}" if status.holder else ""
    console.print(
        f"{status.job}: {status.phase}{who}, as of {status.updated}", markup=False, highlight=False
    )
    for line in _requests(status):
        console.print(line, markup=False, highlight=False)
    table = Table("stage", "done", "failed", "of", "a minute", "time left")
    for stage in status.stages:
        total = f"about {stage.total}" if stage.estimated else str(stage.total)
        rate = "" if stage.rate is None else f"{60 * stage.rate:.1f}"
        left = "" if stage.eta_s is None else duration(stage.eta_s)
        table.add_row(stage.stage, str(stage.done), str(stage.failed), total, rate, left)
    console.print(table)
    if status.failures:
        console.print(_failures_table(status.failures))
    if status.num_failures > len(status.failures):
        console.print(f"{status.num_failures} failures in all; the rest is in manifests/failures")


def _requests(status: JobStatus) -> Iterator[str]:
    """What was asked of the job, as far as it is not as usual."""
    control = status.control
    if control["paused"]:
        yield "paused; `storyreel resume` lets it go on"
    if control["cancel"] != "no":
        yield f"cancelled ({control['cancel']}); `storyreel resume` takes it back"
    if control["approval"] != "not_needed":
        yield f"sample: {control['approval']}"
    if control["limits"]:
        yield "actors: " + ", ".join(f"{pool} {n}" for pool, n in control["limits"].items())
    if status.window:
        yield f"window: {status.window}, opens {status.opens}, closes {status.closes}"


def _films_table(summary: Summary) -> Table:
    table = Table("seconds", "film", "contact sheet")
    for film in summary.newest_films:
        files = (PurePosixPath(path).name for path in (film.path, film.sheet_path))
        table.add_row(f"{film.duration_s:.1f}", *files)
    for column in table.columns[1:]:
        column.overflow = "fold"
    return table


def _failures_table(failures: Iterable[Failure]) -> Table:
    table = Table("story", "stage", "class", "attempts", "why", title="failures")
    for failure in failures:
        where = failure.story_id or f"{failure.source_file}, row {failure.source_row}"
        table.add_row(
            where, failure.stage, failure.error_class, str(failure.attempts), failure.message
        )
    return table
