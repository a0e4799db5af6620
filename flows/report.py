"""What a job has come to, read from its manifests."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from flows.job import Job
from flows.progress import duration
from flows.status import JobStatus
from stages.manifests import newest_manifests, read_manifest
from stages.records import Failure, Film
from stages.storage import Output

R = TypeVar("R")


FILMS_KEPT = 100
FAILURES_KEPT = 1000


class Summary:
    """What a job has come to, in memory that does not grow with the job.

    All films and failures are counted; of the films the newest are kept, of the failures the
    first. Together the counts are every row of the job's input, once it is finished.
    """

    def __init__(self, output: Output) -> None:
        """Know nothing of the job at `output` yet."""
        self.num_films = 0
        self.num_failures = 0
        self.duration_s = 0.0
        self.newest_films: deque[Film] = deque(maxlen=FILMS_KEPT)
        self.first_failures: list[Failure] = []
        self._output = output
        self._read: set[str] = set()

    def read_on(self) -> None:
        """Read the manifests of the shards that were finished since the last call."""
        for film in self._read_new("films", Film):
            self.num_films += 1
            self.duration_s += film.duration_s
            self.newest_films.append(film)
        for failure in self._read_new("failures", Failure):
            self.num_failures += 1
            if len(self.first_failures) < FAILURES_KEPT:
                self.first_failures.append(failure)

    def _read_new(self, table: str, record: type[R]) -> Iterator[R]:
        for path in newest_manifests(self._output, table):
            if path not in self._read:
                yield from read_manifest(self._output, path, record)
                self._read.add(path)

    def __str__(self) -> str:
        hours = self.duration_s / 3600
        return f"{self.num_films} films ({hours:.2f} h), {self.num_failures} failures"


def summarize(job: Job) -> Summary:
    """Read the films and the failures of the shards that are finished."""
    summary = Summary(job.output)
    summary.read_on()
    return summary


def show_summary(job: Job, summary: Summary, console: Console) -> None:
    """Print where films, sheets and manifests are, and what failed and why."""
    if summary.num_films:
        console.print(_films_table(job, summary))
    if summary.num_failures:
        console.print(_failures_table(summary.first_failures))
    for kept, count, kind in (
        (summary.newest_films, summary.num_films, "films"),
        (summary.first_failures, summary.num_failures, "failures"),
    ):
        if len(kept) < count:
            console.print(f"{len(kept)} of {count} {kind} are listed", highlight=False)
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
    for film in summary.newest_films:
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
