"""Edits a job in place: its stories and settings become those of a command that renders it again.

Stories are matched by their ids. Each shard that holds an edited story is opened in its next
generation, with its stories in a manifest of their own; what is made from something else than
before is rendered again there, and everything else is carried over. New stories get new shards.
Settings concern all shards. Stories that the input does not have any more stay until they are
removed on request.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from storyreel.flows.job.config import RenderConfig
from storyreel.flows.job.description import (
    JOB,
    JobRecord,
    census_of,
    describe,
    differences_from,
    edited_settings,
    read_description,
)
from storyreel.flows.job.generations import Ended, complete_opening, open_edition
from storyreel.flows.job.job import Job, read_job
from storyreel.flows.job.layout import (
    REJECTED,
    Census,
    Counter,
    Sharding,
    discard_picture,
    failure_of,
    is_laid_out,
    read_rows,
    reading_version,
)
from storyreel.flows.job.lock import held
from storyreel.flows.job.retention import read_removed
from storyreel.flows.job.stage_table import StageSpec, StageTable
from storyreel.flows.job.stages import STAGES
from storyreel.stages.errors import InputError
from storyreel.stages.input.parsing import Rejection
from storyreel.stages.input.references import FOLDER as REFERENCES
from storyreel.stages.output.manifests import (
    STORIES,
    Shard,
    manifest_path,
    read_each,
    read_manifest,
    write_manifest,
)
from storyreel.stages.output.records import Failure, Story
from storyreel.stages.output.serialization import to_json
from storyreel.stages.output.storage import Output
from storyreel.stages.output.unit_records import UnitRecords

REVISIONS = "revisions"
"""Folder of what `job.json` was before each edit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a job is to be made from: an input, and the configuration to render it with."""

    input_url: str
    config: RenderConfig
    limit: int | None = None

    def rows(self, keep: Callable[[str, bytes], Any]) -> Iterator[Story | Rejection]:
        """The rows of the input; pictures that they name are given to `keep`."""
        return read_rows(self.input_url, self.limit, self.config, keep)

    @property
    def version(self) -> str:
        """See `reading_version`."""
        return reading_version(self.input_url, self.limit, self.config)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """How a job differs from what it is to be made from.

    Attributes:
        settings: what is said of each edited setting.
        changed: the edited stories of each shard.
        added: new stories.
        gone: by shard, the ids of stories that the input does not have any more.
        rejected: rows of the input that are not valid stories.
        num_unchanged: stories that stay as they are.
        input_sha256: of the input that the job was made from last.
        description: of the job as it is to be.
    """

    settings: tuple[str, ...]
    changed: Mapping[Shard, tuple[Story, ...]]
    added: tuple[Story, ...]
    gone: Mapping[Shard, tuple[str, ...]]
    rejected: tuple[Failure, ...]
    num_unchanged: int
    input_sha256: str
    description: JobRecord

    def is_empty(self, *, prune: bool) -> bool:
        """True if the job is as it is to be; stories that are gone count if they are to go."""
        edits = self.settings, self.changed, self.added, self.gone if prune else ()
        return not any(edits) and self.description.input_sha256 == self.input_sha256

    @property
    def num_changed(self) -> int:
        """Number of edited stories."""
        return sum(map(len, self.changed.values()))

    @property
    def num_gone(self) -> int:
        """Number of stories that the input does not have any more."""
        return sum(map(len, self.gone.values()))


def find_edited(output: Output, source: Source, stages: StageTable = STAGES) -> Job | None:
    """Return the job at an output if it may have to be edited to be made from a source.

    `None` if there is none, it is not laid out completely, or it is known to be the same.
    """
    if not output.exists(JOB):
        return None
    there, job = read_description(output), read_job(output, stages)
    if not is_laid_out(output, job.shards, job.num_rejected):
        return None
    same_files = source.version == there.input_version != ""
    wanted = describe(source.config, census_of(there), 0)
    return None if same_files and not differences_from(output, wanted) else job


def find_revision(
    job: Job, source: Source, keep: Callable[[str, bytes], Any] = discard_picture
) -> Revision:
    """Compare a job with what it is to be made from.

    Raises:
        InputError: the input cannot be read, has no story of the job, or the job is one of other
            weights or of another version.
    """
    there = read_description(job.output)
    version = source.version
    known = _stories_of(job)
    counter = _Comparison(known)
    for row in source.rows(keep):
        counter.add(row)
    census = counter.rows.census()
    census.check_accepted(source.input_url)
    if known and not counter.met:
        raise InputError(
            f"output {job.output.url}: holds a different job: it has none of the input's stories;"
            " choose another --output, or pass --discard-other-job to delete it"
        )
    return Revision(
        settings=edited_settings(job.output, describe(source.config, census, 0)),
        changed={shard: tuple(stories) for shard, stories in counter.changed.items()},
        added=tuple(counter.added),
        gone=_gone(known, counter.met),
        rejected=tuple(counter.rejected),
        num_unchanged=len(counter.met) - sum(map(len, counter.changed.values())),
        input_sha256=there.input_sha256,
        description=_edited(there, source.config, census, version, len(counter.added)),
    )


def _edited(
    there: JobRecord, config: RenderConfig, census: Census, version: str, num_added: int
) -> JobRecord:
    return replace(
        there,
        input_sha256=census.sha256,
        input_version=version,
        rendering=config.rendering(),
        operation=config.operation(),
        num_stories=there.num_stories + num_added,
        num_rejected=census.num_rejected,
        additions=(*there.additions, num_added) if num_added else there.additions,
        revision=there.revision + 1,
    )


@dataclass(frozen=True, slots=True)
class _Known:
    """Where a story of a job is, and a hash of what it says."""

    shard: Shard
    content: bytes


class _Comparison:
    """Compares rows with the stories of a job."""

    def __init__(self, known: Mapping[str, _Known]) -> None:
        self._known = known
        self.rows = Counter()
        self.met: set[str] = set()
        self.changed: defaultdict[Shard, list[Story]] = defaultdict(list)
        self.added: list[Story] = []
        self.rejected: list[Failure] = []

    def add(self, row: Story | Rejection) -> None:
        """Compare one row."""
        self.rows.add(row)
        if isinstance(row, Rejection):
            self.rejected.append(failure_of(row))
        elif (known := self._known.get(row.story_id)) is None:
            self.added.append(row)
        else:
            self.met.add(row.story_id)
            if known.content != _content(row):
                self.changed[known.shard].append(row)


def _stories_of(job: Job) -> dict[str, _Known]:
    shards = job.shards
    paths = [manifest_path(STORIES, shard) for shard in shards]
    read = read_each(job.output, paths, Story)
    return {
        story.story_id: _Known(shard, _content(story))
        for shard, (_, stories) in zip(shards, read, strict=True)
        for story in stories
    }


def _content(story: Story) -> bytes:
    """A hash of what a story says, wherever it was read, and whichever version parsed it."""
    panels = tuple(replace(panel, markup=None) for panel in story.panels)
    said = replace(story, source_file="", source_row=0, panels=panels)
    return hashlib.sha256(repr(said).encode("utf-8", "surrogatepass")).digest()


def _gone(known: Mapping[str, _Known], met: set[str]) -> Mapping[Shard, tuple[str, ...]]:
    gone: defaultdict[Shard, list[str]] = defaultdict(list)
    for story_id, place in known.items():
        if story_id not in met:
            gone[place.shard].append(story_id)
    return {shard: tuple(story_ids) for shard, story_ids in gone.items()}


def revise(job: Job, source: Source, wanted: Revision, *, prune: bool = False) -> Job:
    """Make a job what its input and configuration say now; the next run renders what is stale.

    Killed in between, it is completed by the same command.

    Args:
        wanted: what `find_revision` has found and a person has seen.
        prune: remove the stories that the input does not have any more.

    Raises:
        LockedError: a run works on the job.
        InputError: the job or the input was changed since `wanted` was found.
    """
    with held(job.output, "a command that edits a job") as mine:
        complete_opening(mine)
        there = read_job(mine, job.stages)
        revision = find_revision(there, source, _publish_missing(mine))
        if revision != wanted:
            raise InputError(
                f"output {mine.url}: the job or its"
                " input was changed meanwhile; run the command again"
            )
        _Edit(there, revision, prune=prune).write()
    return read_job(job.output, job.stages)


def _publish_missing(output: Output) -> Callable[[str, bytes], Any]:
    there = {f"{REFERENCES}/{name}" for name in output.names(REFERENCES)}

    def keep(path: str, content: bytes) -> None:
        if path not in there:
            output.publish(path, content)

    return keep


class _Edit:
    """Writes a revision: new files first, then the generations, and `job.json` last.

    Whatever was written before a kill is either not read, or is a part of the edit.
    """

    def __init__(self, job: Job, revision: Revision, *, prune: bool) -> None:
        self._job = job
        self._output = job.output
        self._revision = revision
        self._gone = revision.gone if prune else {}
        self._write = partial(write_manifest, job.output, fingerprint=job.fingerprint)

    def write(self) -> None:
        """Write it."""
        self._write_added()
        shards = self._edited_shards()
        for shard in shards:
            self._write_edited(shard)
        if self._revision.rejected or self._output.exists(REJECTED):
            self._write(REJECTED, Failure, self._revision.rejected)
        if shards:
            removed = {str(shard): len(story_ids) for shard, story_ids in self._gone.items()}
            units = [unit for shard in shards for unit in self._certainly_open(shard)]
            open_edition(self._output, shards, removed, units)
        self._publish_description()

    def _write_added(self) -> None:
        added = self._revision.added
        if not added:
            return
        job = self._job
        after = Sharding(
            num_stories=job.num_stories + len(added),
            shard_size=job.shard_size,
            sample_size=job.sample_size,
            additions=self._revision.description.additions,
            removed=job.removed,
        )
        start = 0
        for shard in after.first_shards[job.num_shards :]:
            end = start + after.size_of(shard)
            self._write(manifest_path(STORIES, shard), Story, added[start:end])
            start = end

    def _edited_shards(self) -> list[Shard]:
        """The shards to open again."""
        edited = self._revision.changed.keys() | self._gone.keys()
        return [s for s in self._job.shards if self._revision.settings or s in edited]

    def _write_edited(self, shard: Shard) -> None:
        """Write the stories of a shard's next generation."""
        changed = {story.story_id: story for story in self._revision.changed.get(shard, ())}
        gone = set(self._gone.get(shard, ()))
        there = read_manifest(self._output, manifest_path(STORIES, shard), Story)
        stories = [changed.get(s.story_id, s) for s in there if s.story_id not in gone]
        generation = shard.generation + 1
        opened = replace(shard, generation=generation, edition=generation)
        self._write(manifest_path(STORIES, opened), Story, stories)

    def _certainly_open(self, shard: Shard) -> Iterator[Ended]:
        """Yield the units that are open again, without a look at what they are made from.

        Of the stories that the edit concerns that is what was given up, what an earlier version has
        made, which did not record inputs, and what was removed since; and how an edited story is
        split.
        """
        edited = {story.story_id for story in self._revision.changed.get(shard, ())}
        removed = read_removed(self._output, shard)
        for spec in self._job.stages:
            units = UnitRecords.find(self._output, spec.name, shard)
            first = spec is self._job.stages.specs[0]
            for name in sorted(units.ended):
                story_id = spec.story_of(name)
                if not (self._revision.settings or story_id in edited):
                    continue
                lost = name in units.failed or (spec.intermediate and story_id in removed)
                if lost or (first and story_id in edited) or not _inputs(units, name, spec):
                    yield Ended(stage=spec.name, shard=str(shard), name=name)

    def _publish_description(self) -> None:
        before = read_description(self._output)
        self._output.publish(f"{REVISIONS}/{before.revision:04d}.json", to_json(before))
        self._output.publish(JOB, to_json(self._revision.description))


def _inputs(units: UnitRecords, name: str, spec: StageSpec) -> str:
    return units.commit(name, spec.record).inputs
