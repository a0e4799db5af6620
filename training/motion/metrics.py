"""What is measured while a run learns: a line of JSON a step, and TensorBoard files if it is there.

The lines are the truth: a run that goes on from a checkpoint measures some steps again.
"""

import importlib
import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from storyreel.training import parallel

FILE = "metrics.jsonl"
FOLDER = "tensorboard"


class Metrics:
    """Writes measurements into a work folder; of several workers the first one does."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._lines: Any = None
        self._board: Any = None

    def __enter__(self) -> Self:
        if parallel.rank() == 0:
            self._lines = (self._work / FILE).open("a", encoding="utf-8", buffering=1)
            if importlib.util.find_spec("tensorboardX") is not None:  # of the extra `train`
                tensorboard: Any = importlib.import_module("tensorboardX")
                self._board = tensorboard.SummaryWriter(str(self._work / FOLDER))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for one in filter(None, (self._lines, self._board)):
            one.close()

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Write what was measured after so many steps."""
        if self._lines is not None:
            self._lines.write(json.dumps({"step": step, **values}) + "\n")
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)


def read_metrics(work: Path) -> dict[int, dict[str, float]]:
    """What was measured, by step; of a step that was taken twice, the later measurement."""
    measured: dict[int, dict[str, float]] = {}
    for values in _lines(work / FILE):
        measured.setdefault(int(values.pop("step")), {}).update(values)
    return dict(sorted(measured.items()))


def _lines(path: Path) -> Iterator[dict[str, float]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        # A run that was killed may have left half a line.
        if line.endswith("}"):
            yield json.loads(line)
