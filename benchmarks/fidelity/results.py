"""What was measured, kept as one JSON file per unit, so that a stopped benchmark goes on and two
processes can share it."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from storyreel.flows.job.config import RenderConfig

T = TypeVar("T")

Result = dict[str, Any]
"""Plain values, as JSON has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """The amount of measurements, the models, and the folder of the results."""

    config: RenderConfig
    work: Path
    """Of these models alone: results of other weights never mix with theirs."""
    num_stories: int
    num_ablation: int
    """The first of the stories, on which the ablation is run."""
    num_panels: int
    num_seeds: int
    num_twins: int
    num_clips: int
    """Of each kind."""
    num_films: int
    num_true: int
    """True pictures on which the estimators are checked."""
    command: str
    """What does all this again, for the page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One method: the line of a table, and the folder of its results."""

    name: str
    folder: Path

    def path(self, unit: str, suffix: str = ".json") -> Path:
        """A file of one unit's result."""
        return self.folder / f"{unit}{suffix}"

    def has(self, unit: str) -> bool:
        """True if the unit was measured."""
        return self.path(unit).exists()

    def unmeasured(self, units: Mapping[str, T]) -> dict[str, T]:
        """Those of the units that have no result yet."""
        return {unit: what for unit, what in units.items() if not self.has(unit)}

    def keep(self, unit: str, result: Result) -> None:
        """Write down what was measured of a unit."""
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.path(unit, f".{os.getpid()}.partial")
        temporary.write_text(json.dumps(result), encoding="utf-8")
        temporary.replace(self.path(unit))

    def read(self, unit: str) -> Result:
        """A unit's result. Raises FileNotFoundError where it was not measured."""
        result: Result = json.loads(self.path(unit).read_text(encoding="utf-8"))
        return result


def row_of(setup: Setup, experiment: str, name: str, settings: BaseModel) -> Row:
    """The row of a method; rows of the same settings share their results, whatever their names."""
    digest = hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:12]
    return Row(name=name, folder=setup.work / experiment / digest)
