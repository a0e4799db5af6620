"""Lets damage at an output be made good: records and files that are not what was published.

Storage may lose or change bytes long after they were written. Whoever reads such a file refuses it
by its checksum, so that no film is made from it; its story is given up, or an audit finds it. Here
the units that made damaged files are forgotten, with whatever their stories were given up for, and
the next run of the job makes them again.
"""

from collections.abc import Iterator
from typing import Any

from storyreel.flows.audit.verify import RECORDS, TABLES
from storyreel.flows.job.generations import Ended, complete_opening, open_again
from storyreel.flows.job.job import read_job
from storyreel.flows.job.lock import held
from storyreel.flows.job.retention import read_removed
from storyreel.flows.run.shards import STAGES
from storyreel.stages.output.commits import (
    COMMITTED,
    Commit,
    UnitId,
    folder,
    read_commit,
    read_progress,
)
from storyreel.stages.output.manifests import Shard, manifest_path, read_manifest
from storyreel.stages.output.records import files_of
from storyreel.stages.output.storage import Output


def open_for_repair(output: Output) -> tuple[str, ...]:
    """Let the next run of the job make again what is damaged or missing.

    Returns:
        What is: paths of files, of records and of manifests.

    Raises:
        LockedError: a run works on the job.
        ValueError: there is no job, or the stories it was laid out with are damaged themselves.
    """
    with held(output, "a command that repairs damage") as mine:
        complete_opening(mine)
        found = [_Damage(mine, shard) for shard in read_job(mine).shards]
        damaged = [damage for damage in found if damage.places]
        if damaged:
            units = [unit for damage in damaged for unit in damage.units]
            open_again(mine, [damage.shard for damage in damaged], units)
    return tuple(place for damage in damaged for place in damage.places)


MADE_FROM = {"motion": ("keyframes",), "films": ("keyframes", "motion")}
"""By stage, the stages that made its files' sources; a job may have let those go."""


class _Damage:
    """What is damaged of one shard: its places, and the units that have to be forgotten."""

    def __init__(self, output: Output, shard: Shard) -> None:
        self.shard = shard
        self.places: list[str] = []
        self.units: list[Ended] = []
        self._output = output
        self._removed = read_removed(output, shard)
        self._progress = {stage: read_progress(output, stage, shard) for stage in STAGES}
        stories = self._look_at_units()
        manifests = self._look_at_manifests()
        for stage in STAGES:
            for name in sorted(self._progress[stage].failed):
                # A manifest is read for all the stories of its shard.
                if manifests or _story_of(stage, name) in stories:
                    self.units.append(self._ended(stage, name))
        self.places += manifests

    def _look_at_units(self) -> set[str]:
        """Note the damaged units, and what they need to be made again; their stories."""
        stories: set[str] = set()
        for stage in STAGES:
            for name in sorted(self._progress[stage].done):
                if places := list(self._damaged_places(stage, name)):
                    self.places += places
                    self.units += [self._ended(stage, name), *self._let_go(stage, name)]
                    stories.add(_story_of(stage, name))
        return stories

    def _let_go(self, stage: str, name: str) -> Iterator[Ended]:
        """The units whose files a unit was made from, if its story's files were let go."""
        story_id = _story_of(stage, name)
        if story_id in self._removed:
            for before in MADE_FROM.get(stage, ()):
                for made in sorted(self._progress[before].done):
                    if _story_of(before, made) == story_id:
                        yield self._ended(before, made)

    def _ended(self, stage: str, name: str) -> Ended:
        return Ended(stage=stage, shard=str(self.shard), name=name)

    def _damaged_places(self, stage: str, name: str) -> Iterator[str]:
        """The files of a unit that are not what they were, or its record if that is not."""
        unit = UnitId(stage=stage, shard=self.shard, story_id=name)
        try:
            made: Commit[Any] = read_commit(self._output, unit, RECORDS[stage])
        except ValueError:
            yield f"{folder(stage, self.shard)}/{name}{COMMITTED}"
            return
        if stage != "films" and _story_of(stage, name) in self._removed:
            return
        for file in (file for record in made.records for file in files_of(record)):
            try:
                self._output.check(file)
            except ValueError:
                yield file.path

    def _look_at_manifests(self) -> list[str]:
        """The damaged ones. Sealing again writes all of a shard's, from its units' records."""
        damaged = []
        for table, record in TABLES.items():
            path = manifest_path(table, self.shard)
            try:
                read_manifest(self._output, path, record)
            except FileNotFoundError:
                continue  # not sealed yet
            except ValueError:
                damaged.append(path)
        return damaged


def _story_of(stage: str, name: str) -> str:
    """The story of the unit of that name."""
    return name.rpartition(".")[0] if stage == "motion" else name
