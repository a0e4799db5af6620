"""Progress bars in the terminal, one per stage."""

from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from flows.shards import STAGES
from stages.records import Failure, Storyboard

MAX_WARNINGS = 20
"""Notes about prompts that the terminal shows."""


class StageProgress:
    """One bar per stage; task threads report to it the units that are opened and over."""

    def __init__(self, num_stories: int, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[failed]}"),
            console=console,
        )
        self._failed = dict.fromkeys(STAGES, 0)
        self._num_warnings = 0
        self._bars = {
            stage: self._progress.add_task(stage, total=num_stories, failed="") for stage in STAGES
        }
        # How many shots there are is known only story by story.
        self._progress.update(self._bars["motion"], total=0)

    def opened(self, stage: str, num_units: int) -> None:
        """A shard's stage was opened with that many units."""
        if stage == "motion":
            bar = self._progress.tasks[self._bars[stage]]
            self._progress.update(bar.id, total=(bar.total or 0) + num_units)

    def ended(self, stage: str, result: Any) -> None:
        """A unit is over: with a tuple of records, or with a `Failure`."""
        if isinstance(result, Failure):
            self._failed[stage] += 1
        elif stage == "prompts":
            self._warn(result[0])
        failed = f"{self._failed[stage]} failed" if self._failed[stage] else ""
        self._progress.update(self._bars[stage], advance=1, failed=failed)

    def _warn(self, storyboard: Storyboard) -> None:
        """Say what was done to the user's words; the panels' manifests hold it all."""
        for warning in dict.fromkeys(w for panel in storyboard.panels for w in panel.warnings):
            self._num_warnings += 1
            if self._num_warnings <= MAX_WARNINGS:
                self._say(f"story {storyboard.story_id}: {warning}")
            elif self._num_warnings == MAX_WARNINGS + 1:
                self._say("more such notes are in the column `warnings` of manifests/panels")

    def _say(self, note: str) -> None:
        self._progress.console.print(note, markup=False, highlight=False)

    def __enter__(self) -> "StageProgress":
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()
