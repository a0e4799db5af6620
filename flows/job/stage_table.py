"""The table of stages: one row for each states all that the rest of the program needs to know.

The standard rows are in `storyreel.flows.job.stages`. A job carries its table (`Job.stages`), so
that a stage that is added to it is also submitted to Prefect, counted, planned, audited and
repaired; no other module names a stage.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from operator import attrgetter
from typing import Any

from storyreel.flows.job.config import RenderConfig
from storyreel.stages.output.copies import plain_name
from storyreel.stages.output.manifests import STORIES, Shard, manifest_path, read_manifest
from storyreel.stages.output.records import Failure, Story, Storyboard
from storyreel.stages.output.storage import Output
from storyreel.stages.output.unit_records import UnitRecords
from storyreel.stages.units import StageFactory

FAILURES = "failures"
"""The manifest that is written last: a shard that has it is finished."""

SHOTS = "shots"
"""The manifest whose rows are the units of the stages that work on one shot at a time."""


class UnitOf(StrEnum):
    """The piece of a job that one unit of a stage works on."""

    STORY = "story"
    SHOT = "shot"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One call of a stage: the story (and shot) that it is for, and the stage's argument.

    `made_from` are plain values that decide what the stage makes, if they are not the argument.
    """

    story_id: str
    argument: Any
    shot_index: int | None = None
    made_from: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestSpec:
    """A manifest that a stage writes when all units of a shard are finished.

    Attributes:
        table: name of the manifest's folder below `manifests/`.
        record: class of its rows.
        order: sort key of its rows, so that the order of completion never reaches the disk.
        rows: the rows that one record of a unit contributes.
    """

    table: str
    record: type
    order: Callable[[Any], Any] = attrgetter("story_id")
    rows: Callable[[Any], Iterable[Any]] = lambda record: (record,)


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesSpec:
    """Where a stage publishes the files of a story.

    With `suffixes`, the files are `FOLDER/STORY.SUFFIX`; without, each story has a folder
    `FOLDER/STORY/` of its own.
    """

    folder: str
    suffixes: tuple[str, ...] = ()

    def paths(self, output: Output, story_id: str) -> list[str]:
        """The paths at which files of a story are, or may be, at `output`."""
        if not self.suffixes:
            base = f"{self.folder}/{story_id}"
            return [f"{base}/{name}" for name in output.names(base)]
        own = {f"{story_id}.{suffix}" for suffix in self.suffixes}
        names = (name for name in output.names(self.folder) if plain_name(name) in own)
        return [f"{self.folder}/{name}" for name in names]

    def remove(self, output: Output, story_id: str) -> None:
        """Remove the files of a story, as far as they are there."""
        if not self.suffixes:
            output.remove_folder(f"{self.folder}/{story_id}")
        else:
            for path in self.paths(output, story_id):
                output.remove(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSpec:
    """One stage of a job: a row of the table.

    Attributes:
        name: names the stage in records, in the Prefect UI and on the command line.
        pool: pool of `config.pools` whose actors run it.
        factory: returns, for the output's URL and the configuration, what constructs the stage on a
            worker; it is sent there by pickle.
        units: the units of one shard, from the manifests that earlier stages have written.
        record: class of the records that a unit returns, from a module that workers can import:
            pickle would rebuild a class of the script that is run, and pydantic refuse the copy.
        manifests: what seals the stage of a shard, in the order of writing.
        unit_of: what a unit works on; it says how many units a job has.
        files: where its files are published, if it publishes any.
        settings: the part of a configuration that decides what it makes.
        made_from: the stages whose files it reads.
        intermediate: whether its files may be removed once a story is finished.
        items: how much work the records of a unit stand for, such as the number of frames.
        planned_items: the same, of all units of a story, known from its storyboard alone.
    """

    name: str
    pool: str
    factory: Callable[[str, RenderConfig], StageFactory]
    units: Callable[["ShardContext"], Iterable[Unit]]
    record: type
    manifests: tuple[ManifestSpec, ...]
    unit_of: UnitOf = UnitOf.STORY
    files: FilesSpec | None = None
    settings: Callable[[RenderConfig], Any] = RenderConfig.rendering
    made_from: tuple[str, ...] = ()
    intermediate: bool = False
    items: Callable[[Sequence[Any]], int] = len
    planned_items: Callable[[Storyboard], int] = lambda _storyboard: 1

    def story_of(self, unit_name: str) -> str:
        """The story that the unit of that name belongs to (`UnitId.name`)."""
        return unit_name.rpartition(".")[0] if self.unit_of is UnitOf.SHOT else unit_name

    def planned_units(self, storyboard: Storyboard) -> int:
        """The number of units of a story."""
        return len(storyboard.shots) if self.unit_of is UnitOf.SHOT else 1


@dataclass(frozen=True, slots=True)
class StageTable:
    """The stages of a job in the order in which a shard goes through them."""

    specs: tuple[StageSpec, ...]

    def __post_init__(self) -> None:
        """Check that names are unique and that stages are made from earlier ones.

        Raises:
            ValueError: names the stage.
        """
        tables = [STORIES, FAILURES, *(m.table for spec in self for m in spec.manifests)]
        for place, spec in enumerate(self.specs):
            earlier = self.names[:place]
            if spec.name in earlier or any(tables.count(m.table) > 1 for m in spec.manifests):
                raise ValueError(f"stage {spec.name}: its name or a manifest of it is taken")
            if unknown := set(spec.made_from) - set(earlier):
                raise ValueError(f"stage {spec.name}: {min(unknown)} is not an earlier stage")

    def __iter__(self) -> Iterator[StageSpec]:
        return iter(self.specs)

    def __len__(self) -> int:
        return len(self.specs)

    def __getitem__(self, name: str) -> StageSpec:
        return self.specs[self.names.index(name)]

    def with_stage(self, spec: StageSpec) -> "StageTable":
        """A table with one more stage, the last one of every shard."""
        return StageTable((*self.specs, spec))

    def with_factories(
        self, factories: Mapping[str, Callable[[str, RenderConfig], StageFactory]]
    ) -> "StageTable":
        """The same stages, some of them constructed in another way."""
        return StageTable(
            tuple(replace(s, factory=factories.get(s.name, s.factory)) for s in self.specs)
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the stages, in order."""
        return tuple(spec.name for spec in self.specs)

    @property
    def last(self) -> StageSpec:
        """The stage after which a story is finished."""
        return self.specs[-1]

    @property
    def intermediate(self) -> tuple[StageSpec, ...]:
        """The stages whose files may be removed once a story is finished."""
        return tuple(spec for spec in self.specs if spec.intermediate)

    @property
    def records(self) -> dict[str, type]:
        """The record class of every manifest that seals a shard, in the order of writing."""
        manifests = [manifest for spec in self.specs for manifest in spec.manifests]
        return {m.table: m.record for m in manifests} | {FAILURES: Failure}

    def in_pool(self, pool: str) -> tuple[StageSpec, ...]:
        """The stages that run in a pool."""
        return tuple(spec for spec in self.specs if spec.pool == pool)

    def before(self, name: str) -> tuple[StageSpec, ...]:
        """The stages that a shard goes through before this one."""
        return self.specs[: self.names.index(name)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardContext:
    """One shard of a job, and what its stages have written so far."""

    output: Output
    shard: Shard
    fingerprint: str
    config: RenderConfig
    stages: StageTable

    def rows(self, table: str) -> list[Any]:
        """The rows of one of the shard's manifests.

        Raises:
            FileNotFoundError: it is not written yet.
            ValueError: it is damaged.
        """
        record = Story if table == STORIES else self.stages.records[table]
        path = manifest_path(table, self.shard)
        return read_manifest(self.output, path, record, fingerprint=self.fingerprint)

    def failures(self) -> list[Failure]:
        """One failure of each story that was given up: that of the earliest stage."""
        sources = {story.story_id: story for story in self.rows(STORIES)}
        first: dict[str, Failure] = {}
        for stage in self.stages.names:
            units = UnitRecords.find(self.output, stage, self.shard)
            for failure in units.map(units.failure, sorted(units.failed)):
                story = sources[failure.story_id]
                located = replace(
                    failure, source_file=story.source_file, source_row=story.source_row
                )
                first.setdefault(failure.story_id, located)
        return list(first.values())
