"""Progress bars in the terminal, one per stage."""

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from storyreel.flows.job.status import StageStatus
from storyreel.flows.views.figures import format_duration, format_rate
from storyreel.stages.output.records import Clip, Storyboard

MAX_WARNINGS = 20
"""Notes about prompts and clips that the terminal shows."""


class StageProgress:
    """One bar per stage."""

    def __init__(self, stages: Sequence[str], console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        self._num_warnings = 0
        self._bars = {stage: self._progress.add_task(stage, total=0, note="") for stage in stages}

    def show(self, stages: Iterable[StageStatus]) -> None:
        """Set the bars to how far the stages are."""
        for status in stages:
            self._progress.update(
                self._bars[status.stage],
                total=status.total,
                completed=status.done + status.failed,
                note=describe(status),
            )

    def warn(self, records: tuple[Any, ...]) -> None:
        """Print how a user's text was changed, and which clips are flawed; the manifests of panels
        and clips contain every such note."""
        for note in _notes(records):
            self._num_warnings += 1
            if self._num_warnings <= MAX_WARNINGS:
                self._say(note)
            elif self._num_warnings == MAX_WARNINGS + 1:
                self._say(
                    "more such notes are in the columns `warnings` of manifests/panels and `flaw`"
                    " of manifests/clips"
                )

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


def _notes(records: tuple[Any, ...]) -> list[str]:
    match records:
        case (Storyboard() as board,):
            told = dict.fromkeys(w for panel in board.panels for w in panel.warnings)
            return [f"story {board.story_id}: {warning}" for warning in told]
        case (Clip() as clip,) if clip.flaw:
            return [f"story {clip.story_id}: shot {clip.shot_index}: {clip.flaw}"]
        case _:
            return []


def describe(status: StageStatus) -> str:
    """Rate, time left and failures of a stage, in a few words."""
    notes = []
    if status.rate:
        notes.append(format_rate(status.rate))
    if status.eta_s:
        notes.append(f"{format_duration(status.eta_s)} left")
    if status.failed:
        notes.append(f"{status.failed} failed")
    return ", ".join(notes)
