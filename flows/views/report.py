"""The terminal's view of a job: summary, progress and failures."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from rich.console import Console
from rich.table import Table

from storyreel.flows.job.job import Job
from storyreel.flows.job.status import JobStatus
from storyreel.flows.views.figures import format_duration
from storyreel.flows.views.gallery import INDEX
from storyreel.flows.views.summary import Summary
from storyreel.flows.views.terminal import plain
from storyreel.stages.output.records import Failure


def show_summary(job: Job, summary: Summary, console: Console) -> None:
    """Print where films, sheets and manifests are, and what failed and why."""
    if summary.num_films:
        console.print(_films_table(summary))
        where = ", ".join(job.output.location(place) for place in ("films", INDEX))
        _say(console, f"films and a page that shows them: {where}")
    if summary.num_failures:
        console.print(_failures_table(summary.first_failures))
    for kept, count, kind in (
        (summary.newest_films, summary.num_films, "films"),
        (summary.first_failures, summary.num_failures, "failures"),
    ):
        if len(kept) < count:
            _say(console, f"{len(kept)} of {count} {kind} are listed")
    _say(console, f"{summary}; manifests: {job.output.location('manifests')}")


def show_status(status: JobStatus, console: Console) -> None:
    """Print how far a job is, who works on it, and what failed."""
    who = f", by {status.holder}" if status.holder else ""
    _say(console, f"{status.job}: {status.phase}{who}, as of {status.updated}")
    for line in _requests(status):
        _say(console, line)
    for pool, environments in status.environments.items():
        _say(console, f"{pool} on: {'; '.join(environments)}")
    for wait in status.waits:
        _say(console, f"waits: {wait}")
    table = Table("stage", "done", "failed", "of", "a minute", "time left")
    for stage in status.stages:
        total = f"about {stage.total}" if stage.estimated else str(stage.total)
        rate = "" if stage.rate is None else f"{60 * stage.rate:.1f}"
        left = "" if stage.eta_s is None else format_duration(stage.eta_s)
        table.add_row(plain(stage.stage), str(stage.done), str(stage.failed), total, rate, left)
    console.print(table)
    if status.failures:
        console.print(_failures_table(status.failures))
    if status.num_failures > len(status.failures):
        _say(console, f"{status.num_failures} failures in all; the rest is in manifests/failures")


def _say(console: Console, line: str) -> None:
    """Print a line as it is; the paths in it can be copied."""
    console.print(plain(line), highlight=False, soft_wrap=True)


def _requests(status: JobStatus) -> Iterator[str]:
    """The settings of the control record that differ from the defaults."""
    control = status.control
    if control["paused"]:
        yield "paused; `storyreel resume` continues it"
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
        table.add_row(f"{film.duration_s:.1f}", *map(plain, files))
    for column in table.columns[1:]:
        column.overflow = "fold"
    return table


def _failures_table(failures: Iterable[Failure]) -> Table:
    """A row for each failed story, and one for all input rows that were refused alike."""
    table = Table("story", "stage", "class", "attempts", "why", title="failures")
    for alike in _alike(failures):
        failure = alike[0]
        where = failure.story_id or f"{failure.source_file}, row {failure.source_row}"
        where += f" and {len(alike) - 1} more" if len(alike) > 1 else ""
        cells = (failure.stage, failure.error_class, str(failure.attempts), failure.message)
        table.add_row(*map(plain, (where, *cells)))
    return table


def _alike(failures: Iterable[Failure]) -> Iterable[list[Failure]]:
    groups: defaultdict[object, list[Failure]] = defaultdict(list)
    for failure in failures:
        place = f"{failure.source_file} row {failure.source_row}: "
        reason = failure.stage, failure.source_file, failure.message.removeprefix(place)
        groups[reason if failure.stage == "input" else id(failure)].append(failure)
    return groups.values()
