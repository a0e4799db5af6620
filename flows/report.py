"""What a job has come to, read from its manifests."""

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from flows.job import Job
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
        console.print(_failures_table(summary))
    console.print(f"{summary}; manifests in {job.output.location('manifests')}", highlight=False)


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


def _failures_table(summary: Summary) -> Table:
    table = Table("story", "stage", "class", "attempts", "why", title="failures")
    for failure in summary.failures:
        where = failure.story_id or f"{failure.source_file}, row {failure.source_row}"
        table.add_row(
            where, failure.stage, failure.error_class, str(failure.attempts), failure.message
        )
    return table
