"""One shard's way through the stages: what each stage's units are, and how its manifests seal it.

A stage of a shard is sealed by its last manifest. Until then its units' commit records say what is
done; whatever is not done and not given up is handed to a pool.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any, Protocol

from storyreel.cluster.work import Work
from storyreel.flows.job.retention import remove_unrecorded
from storyreel.stages.output.commits import (
    UnitId,
    read_attempts,
    read_commit,
    read_failure,
    read_progress,
)
from storyreel.stages.output.manifests import Shard, manifest_path, read_manifest, write_manifest
from storyreel.stages.output.records import (
    Clip,
    Failure,
    Film,
    Keyframe,
    Panel,
    Shot,
    Story,
    Storyboard,
)
from storyreel.stages.output.storage import Output
from storyreel.stages.units import FilmUnit, KeyframesUnit, MotionUnit

POOL_OF_STAGE = {
    "prompts": "assembly",
    "keyframes": "render",
    "motion": "render",
    "films": "assembly",
}
STAGES = tuple(POOL_OF_STAGE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A unit of a stage: what names it and what the stage is called with."""

    id: UnitId
    argument: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOfShard:
    """A stage on one shard: its units, the record that they make, the manifests that seal it."""

    name: str
    shard: Shard
    units: Callable[[], list[Unit]]
    record: type
    seal: Callable[[list[Any]], None]
    sealed_by: str

    def is_sealed(self, output: Output) -> bool:
        """Whether the stage is over for this shard."""
        return output.exists(self.sealed_by)


class ShardPipeline:
    """The stages of one shard of a job, each reading the manifests of the ones before it."""

    def __init__(self, output: Output, shard: Shard, *, fingerprint: str, fps: int) -> None:
        self._output = output
        self._shard = shard
        self._fingerprint = fingerprint
        self._fps = fps

    def stage(self, name: str) -> StageOfShard:
        """One of `STAGES` on this shard."""
        definitions: dict[str, tuple[Callable[[], list[Unit]], type, Sequence[str]]] = {
            "prompts": (self._prompts, Storyboard, ("panels", "shots")),
            "keyframes": (self._keyframes, Keyframe, ("keyframes",)),
            "motion": (self._motion, Clip, ("clips",)),
            "films": (self._films, Film, ("films", "failures")),
        }
        units, record, tables = definitions[name]
        return StageOfShard(
            name=name,
            shard=self._shard,
            units=units,
            record=record,
            seal=getattr(self, f"_seal_{name}"),
            sealed_by=manifest_path(tables[-1], self._shard),
        )

    def _read(self, table: str, record: type) -> list[Any]:
        return read_manifest(self._output, manifest_path(table, self._shard), record)

    def _write(self, table: str, record: type, records: Iterable[Any]) -> None:
        write_manifest(self._output, manifest_path(table, self._shard), record, records)

    def _unit(self, stage: str, story_id: str, argument: Any, shot: int | None = None) -> Unit:
        unit = UnitId(stage=stage, shard=self._shard, story_id=story_id, shot_index=shot)
        return Unit(id=unit, argument=argument)

    def _prompts(self) -> list[Unit]:
        stories = self._read("stories", Story)
        return [self._unit("prompts", story.story_id, story) for story in stories]

    def _seal_prompts(self, storyboards: list[Storyboard]) -> None:
        ordered = sorted(storyboards, key=lambda storyboard: storyboard.story_id)
        self._write("panels", Panel, (panel for s in ordered for panel in s.panels))
        self._write("shots", Shot, (shot for s in ordered for shot in s.shots))

    def _keyframes(self) -> list[Unit]:
        stories = {story.story_id: story for story in self._read("stories", Story)}
        panels = _by_story(self._read("panels", Panel))
        return [
            self._unit("keyframes", story_id, KeyframesUnit.of(stories[story_id], of_story))
            for story_id, of_story in panels.items()
        ]

    def _seal_keyframes(self, keyframes: list[Keyframe]) -> None:
        ordered = sorted(keyframes, key=lambda k: (k.story_id, k.keyframe_index))
        self._write("keyframes", Keyframe, ordered)

    def _motion(self) -> list[Unit]:
        keyframes = {(k.story_id, k.keyframe_index): k for k in self._read("keyframes", Keyframe)}
        shots = [shot for shot in self._read("shots", Shot) if (shot.story_id, 0) in keyframes]
        return [
            self._unit(
                "motion",
                shot.story_id,
                MotionUnit(
                    shot=shot,
                    first=keyframes[shot.story_id, shot.shot_index],
                    last=keyframes[shot.story_id, shot.shot_index + 1],
                    fps=self._fps,
                ),
                shot.shot_index,
            )
            for shot in shots
        ]

    def _seal_motion(self, clips: list[Clip]) -> None:
        self._write("clips", Clip, sorted(clips, key=lambda c: (c.story_id, c.shot_index)))

    def _films(self) -> list[Unit]:
        failed = {failure.story_id for failure in self._failures()}
        story_ids = [story.story_id for story in self._read("stories", Story)]
        return [
            self._unit(
                "films",
                story_id,
                FilmUnit(story_id=story_id, shard=self._shard, fingerprint=self._fingerprint),
            )
            for story_id in story_ids
            if story_id not in failed
        ]

    def _seal_films(self, films: list[Film]) -> None:
        failures = sorted(self._failures(), key=lambda f: f.story_id)
        remove_unrecorded(self._output, self._shard, failures)
        self._write("films", Film, sorted(films, key=lambda film: film.story_id))
        self._write("failures", Failure, failures)

    def _failures(self) -> list[Failure]:
        """The first failure of every story that was given up, one a story, in the stages' order."""
        sources = {story.story_id: story for story in self._read("stories", Story)}
        first: dict[str, Failure] = {}
        for stage in STAGES:
            for name in sorted(read_progress(self._output, stage, self._shard).failed):
                failure = read_failure(self._output, stage, self._shard, name)
                first.setdefault(failure.story_id, _located(failure, sources[failure.story_id]))
        return list(first.values())


class Run(Protocol):
    """The run of a job that a shard's stage is rendered in."""

    def submit(self, work: Work, priority: tuple[int, ...]) -> Future[Any]:
        """Hand a unit to its pool; the future is cancelled when the run ends before it."""

    def opened(self, stage: StageOfShard, num_units: int) -> None:
        """A shard's stage was opened with that many units."""

    def ended(self, unit: Unit, result: Any) -> None:
        """A unit was ended by this run: with a tuple of records, or with a `Failure`."""


def render_stage(stage: StageOfShard, output: Output, run: Run) -> bool:
    """Bring a stage of a shard to its seal, handing what is not over to the run's pools.

    Returns:
        Whether it is sealed; if not, the run was told to end first.
    """
    units = stage.units()
    run.opened(stage, len(units))
    try:
        results = list(_results(stage, units, output, run))
    except CancelledError:
        return False
    made = (result for result in results if not isinstance(result, Failure))
    stage.seal([record for records in made for record in records])
    return True


def _results(stage: StageOfShard, units: list[Unit], output: Output, run: Run) -> Iterator[Any]:
    progress = read_progress(output, stage.name, stage.shard)
    submitted: dict[Future[Any], Unit] = {}
    for order, unit in enumerate(units):
        name = unit.id.name
        if name in progress.done:
            yield read_commit(output, unit.id, stage.record).records
        elif name in progress.failed:
            yield read_failure(output, stage.name, stage.shard, name)
        else:
            attempts = read_attempts(output, unit.id) if name in progress.attempted else 0
            work = Work(unit=unit.id, argument=unit.argument, attempts=attempts)
            priority = (stage.shard.index, -STAGES.index(stage.name), order)
            submitted[run.submit(work, priority)] = unit
    for future in _as_over(submitted):
        result = future.result()
        run.ended(submitted[future], result)
        yield result


def _as_over(futures: Iterable[Future[Any]]) -> Iterator[Future[Any]]:
    """The futures as they end, also by being cancelled, which `as_completed` would not see."""
    over: SimpleQueue[Future[Any]] = SimpleQueue()
    waiting = list(futures)
    for future in waiting:
        future.add_done_callback(over.put)
    for _ in waiting:
        yield over.get()


def _by_story(panels: Iterable[Panel]) -> dict[str, list[Panel]]:
    by_story: defaultdict[str, list[Panel]] = defaultdict(list)
    for panel in panels:
        by_story[panel.story_id].append(panel)
    return dict(by_story)


def _located(failure: Failure, story: Story) -> Failure:
    """The failure with the place in the input that its story came from."""
    return replace(failure, source_file=story.source_file, source_row=story.source_row)
