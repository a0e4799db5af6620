"""What an edit changes of a job, in the terminal."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from storyreel.flows.edits.revision import Revision
from storyreel.flows.plans.revision import StageRevision
from storyreel.flows.views.figures import format_duration

MAX_IDS = 10
"""Stories that are named; of more, the number is told."""


def show_revision(
    revision: Revision, plan: Sequence[StageRevision], console: Console, *, prune: bool
) -> None:
    """Print what an edit changes, and what is rendered because of it."""
    for line in _lines(revision, prune=prune):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    table = Table("stage", "again, at most", "new", "of", "one actor's time")
    for stage in plan:
        hours = "not measured" if stage.hours is None else format_duration(3600 * stage.hours)
        table.add_row(stage.stage, str(stage.again), str(stage.new), str(stage.total), hours)
    console.print(table)


def _lines(revision: Revision, *, prune: bool) -> Iterator[str]:
    changed = [story.story_id for stories in revision.changed.values() for story in stories]
    gone = [story_id for story_ids in revision.gone.values() for story_id in story_ids]
    yield (
        f"The job is edited: {len(changed)} stories changed, {len(revision.added)} added,"
        f" {len(gone)} gone, {revision.num_unchanged} unchanged"
    )
    yield from (f"  setting {setting}" for setting in revision.settings)
    yield from _named("changed", changed)
    yield from _named("added", [story.story_id for story in revision.added])
    yield from _named("removed" if prune else "gone, kept without --prune", gone)


def _named(what: str, story_ids: Sequence[str]) -> Iterator[str]:
    if story_ids:
        more = f" and {len(story_ids) - MAX_IDS} more" if len(story_ids) > MAX_IDS else ""
        yield f"  {what}: {', '.join(story_ids[:MAX_IDS])}{more}"
