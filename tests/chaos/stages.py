"""Quick real stages, and a way for any of them to go wrong at a chosen unit and moment.

Prompts and keyframes are those of the simulated renderer. Motion reads its keyframes and films
their clips as the product's own stages do, checksums included.
"""

import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.simulated import clip_of, publish_video, stage_table
from storyreel.flows.job.config import RenderConfig
from storyreel.flows.job.stage_table import StageSpec, StageTable
from storyreel.flows.job.stages import STAGES
from storyreel.stages.output.records import Clip, Story
from storyreel.stages.output.storage import Output
from storyreel.stages.pictures import read_picture
from storyreel.stages.units import FilmUnit, KeyframesUnit, MotionUnit, Stage, StageFactory

SPEED = 50.0
"""How many times faster than a simulated renderer's units ours are."""


class DissolvingMotion:
    """Dissolves one keyframe, as it reads it from the output, into the next."""

    def __init__(self, *, output_url: str) -> None:
        self._output = Output(output_url)

    def __call__(self, unit: MotionUnit) -> tuple[Clip]:
        shot = unit.shot
        ends = (read_picture(self._output, k, k.width, k.height) for k in (unit.first, unit.last))
        frames = np.linspace(*ends, num=shot.num_frames).round().astype(np.uint8)
        path = f"clips/{shot.story_id}/{shot.shot_index:04d}.mkv"
        return (clip_of(shot, publish_video(self._output, path, frames, unit.fps)),)


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """What goes wrong: at which unit, how often, and before its work or after it."""

    kind: str
    stage: str
    unit: str
    times: int = 1
    after: bool = False


class Troubled:
    """A stage with its troubles; notes every call, and every trouble, in files of `folder`."""

    def __init__(
        self, *, make: StageFactory, stage: str, folder: str, troubles: tuple[Trouble, ...]
    ) -> None:
        self._stage: Stage = make()
        self._name = stage
        self._folder = Path(folder)
        self._troubles = {trouble.unit: trouble for trouble in troubles if trouble.stage == stage}

    def __call__(self, argument: Any) -> tuple[Any, ...]:
        unit = unit_name(argument)
        self._note("calls", unit)
        trouble = self._troubles.get(unit)
        if trouble is not None and not trouble.after:
            self._meet(trouble)
        records = self._stage(argument)
        if trouble is not None and trouble.after:
            self._meet(trouble)
        return records

    def _meet(self, trouble: Trouble) -> None:
        if len(noted(self._folder, "troubles", self._name, trouble.unit)) < trouble.times:
            TROUBLES[trouble.kind](self._folder, self._note("troubles", trouble.unit))

    def _note(self, kind: str, unit: str) -> Path:
        folder = self._folder / kind
        folder.mkdir(exist_ok=True)
        note = folder / f"{self._name}:{unit}:{time.monotonic_ns()}:{os.getpid()}"
        note.touch()
        return note


def noted(folder: Path, kind: str, stage: str = "*", unit: str = "*") -> list[Path]:
    """The notes on calls or troubles of units, in the order in which they were written."""
    notes = (folder / kind).glob(f"{stage}:{unit}:*")
    return sorted(notes, key=lambda note: int(note.name.split(":")[2]))


def pid_of(note: Path) -> int:
    """The process that wrote a note."""
    return int(note.name.split(":")[3])


def unit_name(argument: Any) -> str:
    """The name of the unit that a stage is called with, within its stage and shard."""
    match argument:
        case MotionUnit(shot=shot):
            return f"{shot.story_id}.{shot.shot_index:04d}"
        case Story(story_id=story_id) | KeyframesUnit(story_id=story_id):
            return story_id
        case FilmUnit(story_id=story_id):
            return story_id
    raise TypeError(f"no stage is called with {type(argument)}")


def _raise(error: Exception) -> Callable[[Path, Path], None]:
    def trouble(_folder: Path, _note: Path) -> None:
        raise error

    return trouble


def _stand(folder: Path, note: Path) -> None:
    """Do nothing until the test lets go of this unit, or of its process."""
    while not (folder / "go").exists():
        time.sleep(0.05)


def _hang(_folder: Path, _note: Path) -> None:
    while True:
        time.sleep(3600)


def _kill_the_flow(folder: Path, _note: Path) -> None:
    os.kill(int((folder / "flow.pid").read_text()), signal.SIGKILL)
    time.sleep(3600)


TROUBLES: Mapping[str, Callable[[Path, Path], None]] = {
    "exception": _raise(RuntimeError("the chaos suite raised this")),
    "memory": _raise(MemoryError("the chaos suite raised this")),
    "exit": lambda _folder, _note: os._exit(1),
    "hang": _hang,
    "stand": _stand,
    "kill flow": _kill_the_flow,
}


def troubled_stages(*, folder: str, troubles: tuple[Trouble, ...]) -> StageTable:
    """The stages of a job, with their troubles."""

    def troubled(spec: StageSpec) -> Callable[[str, RenderConfig], StageFactory]:
        return lambda url, config: partial(
            Troubled,
            make=spec.factory(url, config),
            stage=spec.name,
            folder=folder,
            troubles=troubles,
        )

    stages = stage_table(speed=SPEED).with_factories(
        {
            "motion": lambda url, _config: partial(DissolvingMotion, output_url=url),
            "films": STAGES["films"].factory,
        }
    )
    return stages.with_factories({spec.name: troubled(spec) for spec in stages})
