"""What a job has come to, read from its manifests."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from flows.job import Job
from flows.progress import duration
from flows.status import JobStatus
from stages.manifests import read_manifests
from stages.records import Failure, Film


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The films and the failures of a job; together they are every row of its input."""

    films: tuple[Film, ...]
    failures: tuple[Failure, ...]

    def __str__(self) -> str:
        hours = sum(film.duration_s for film in self.films) / 3600
        return f"{len(self.films)} films ({hours:.2f} h), {len(self.failures)} failures"


def summarize(job: Job) -> Summary:
    """Read the films and the failures of the shards that are finished."""
    return Summary(
        films=tuple(read_manifests(job.output, "films", Film)),
        failures=tuple(read_manifests(job.output, "failures", Failure)),
    )


def show_summary(job: Job, summary: Summary, console: Console) -> None:
    """Print where films, sheets and manifests are, and what failed and why."""
    if summary.films:
        console.print(_films_table(job, summary))
    if summary.failures:
        console.print(_failures_table(summary.failures))
    console.print(f"{summary}; manifests in {job.output.location('manifests')}", highlight=False)


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


def _films_table(job: Job, summary: Summary) -> Table:
    table = Table("story", "seconds", "film", "contact sheet")
    for film in summary.films:
        table.add_row(
            film.story_id,
            f"{film.duration_s:.1f}",
            job.output.location(film.path),
            job.output.location(film.sheet_path),
        )
    table.columns[2].overflow = table.columns[3].overflow = "fold"
    return table


def _failures_table(failures: Iterable[Failure]) -> Table:
    table = Table("story", "stage", "class", "attempts", "why", title="failures")
    for failure in failures:
        where = failure.story_id or f"{failure.source_file}, row {failure.source_row}"
        table.add_row(
            where, failure.stage, failure.error_class, str(failure.attempts), failure.message
        )
    return table
