"""Audits one shard: its manifests, the records of its units, and the files that they name."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, filterfalse
from pathlib import PurePosixPath
from typing import Any

from storyreel.flows.audit.problems import Audit, Problem
from storyreel.flows.edits.editions import earlier_generations, rows_of
from storyreel.flows.job.generations import Ended
from storyreel.flows.job.job import Job
from storyreel.flows.job.retention import read_removed, removed_path
from storyreel.flows.job.stage_table import FAILURES, SHOTS, StageSpec, UnitOf
from storyreel.stages.output.commits import folder
from storyreel.stages.output.manifests import STORIES, Shard, manifest_path, read_manifest
from storyreel.stages.output.records import Failure, File, Story, files_of
from storyreel.stages.output.storage import Output
from storyreel.stages.output.unit_records import PACK, UnitRecords, is_record, pack_path

READERS = 8
"""Files that are read at the same time."""


@dataclass(slots=True, kw_only=True)
class Known:
    """Names collected from all shards, to find files that belong to none of them."""

    stories: set[str] = field(default_factory=set)
    earlier: set[str] = field(default_factory=set)
    """Stories of earlier generations, which may have been removed since."""
    files: dict[str, set[str]] = field(default_factory=dict)
    """By folder that files of several stories share, the names that records have."""
    references: set[str] = field(default_factory=set)
    """Paths of the pictures that stories name."""


class ShardAudit:
    """Audits one shard and adds what it finds to an audit of the whole job."""

    def __init__(self, job: Job, shard: Shard, audit: Audit, known: Known) -> None:
        self._job = job
        self._output = job.output
        self._shard = shard
        self._audit = audit
        self._known = known
        self._units = {name: self._find_units(name) for name in job.stages.names}
        self._made: dict[str, dict[str, tuple[Any, ...]]] = {}
        """By stage and unit, the records that were committed."""
        self._removed = self._read(
            "record", removed_path(shard), partial(read_removed, job.output, shard), frozenset()
        )

    def run(self) -> None:
        """Compare manifests, records and files with each other."""
        stories = self._read_stories()
        manifests = self._read_manifests()
        if FAILURES in manifests:
            self._check_every_story_once(stories, manifests)
        else:
            message = f"{len(stories)} stories are not all finished yet"
            self._audit.add("unfinished", str(self._shard), message)
        for spec in self._job.stages:
            self._made[spec.name] = dict(self._committed(spec))
        self._check_accord(manifests)
        self._check_units({story.story_id for story in stories})
        self._check_files()

    def _read(
        self,
        kind: str,
        place: str,
        read: Callable[[], Any],
        otherwise: Any,
        repair: Callable[[], tuple[Ended, ...]] | None = None,
    ) -> Any:
        """Return what `read` returns; if it fails, add a problem and return `otherwise`.

        Args:
            repair: returns the units to make again if what is there is damaged; `None` if rendering
                again does not help.
        """
        try:
            return read()
        except FileNotFoundError:
            self._audit.add(kind, place, "is missing")
        except ValueError as error:
            message = str(error).removeprefix(f"{place}: ")
            self._damaged(kind, place, message, None if repair is None else repair())
        return otherwise

    def _damaged(
        self, kind: str, place: str, message: str, units: tuple[Ended, ...] | None
    ) -> None:
        shard = None if units is None else self._shard
        self._audit.problems.append(
            Problem(kind=kind, place=place, message=message, shard=shard, units=units or ())
        )

    def _find_units(self, stage: str) -> UnitRecords:
        found: UnitRecords = self._read(
            "record",
            pack_path(stage, self._shard),
            partial(UnitRecords.find, self._output, stage, self._shard),
            None,
            lambda: (self._ended(stage, PACK),),
        )
        return found or UnitRecords.find_unpacked(self._output, stage, self._shard)

    def _read_stories(self) -> list[Story]:
        path = manifest_path(STORIES, self._shard)
        stories: list[Story] = self._read(
            "manifest",
            path,
            partial(read_manifest, self._output, path, Story, fingerprint=self._job.fingerprint),
            [],
        )
        expected = self._job.size_of(self._shard)
        if len(stories) != expected:
            self._audit.add("manifest", path, f"{len(stories)} stories instead of {expected}")
        for story in stories:
            self._audit.num_stories += 1
            if story.story_id in self._known.stories:
                message = f"is in more than one shard, again in {self._shard}"
                self._audit.add("story", story.story_id, message)
            self._known.stories.add(story.story_id)
            images = [character.reference_image for character in story.characters]
            images += [panel.control_image for panel in story.panels]
            self._known.references.update(image for image in images if image is not None)
        return stories

    def _read_manifests(self) -> dict[str, list[Any]]:
        """Read the manifests that are there; those before the last one must be there too."""
        records = self._job.stages.records
        paths = {table: manifest_path(table, self._shard) for table in records}
        there = [table for table, path in paths.items() if self._output.exists(path)]
        last = max((list(records).index(table) for table in there), default=0)
        for table in list(records)[:last]:
            if table not in there:
                self._audit.add("seal", paths[table], "is missing, but a later manifest is there")
        return {
            table: self._read(
                "manifest",
                paths[table],
                partial(
                    read_manifest,
                    self._output,
                    paths[table],
                    records[table],
                    fingerprint=self._job.fingerprint,
                ),
                [],
                self._given_up,  # sealing the shard again writes all of its manifests
            )
            for table in there
        }

    def _check_every_story_once(
        self, stories: list[Story], manifests: dict[str, list[Any]]
    ) -> None:
        """Check that each story is either among the rows of the last stage or a failure."""
        finished = manifests.get(self._job.stages.last.manifests[0].table, [])
        failures = manifests[FAILURES]
        self._audit.num_films += len(manifests.get("films", []))
        self._audit.num_failures += len(failures)
        counts = Counter(row.story_id for row in (*finished, *failures))
        for story in stories:
            if (count := counts[story.story_id]) != 1:
                message = f"is {count} times among the finished stories and the failures"
                self._audit.add("story", story.story_id, message)
        for story_id in sorted(counts.keys() - {story.story_id for story in stories}):
            message = f"is finished or failed in {self._shard}, but not a story of that shard"
            self._audit.add("story", story_id, message)

    def _committed(self, spec: StageSpec) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Yield the units of a stage that are done, with their records."""
        units, fingerprint = self._units[spec.name], self._job.fingerprint
        for name in sorted(units.done):
            made = self._read(
                "record",
                units.place(name),
                partial(units.commit, name, spec.record, fingerprint=fingerprint),
                None,
                partial(self._remake, spec, name),
            )
            yield name, made.records if made else ()

    def _committed_rows(self, table: str) -> Iterator[Any]:
        """Yield the rows that a manifest has by the commit records."""
        for spec in self._job.stages:
            for manifest in (m for m in spec.manifests if m.table == table):
                for record in chain.from_iterable(self._made[spec.name].values()):
                    yield from manifest.rows(record)

    def _check_accord(self, manifests: dict[str, list[Any]]) -> None:
        """Check that manifests have exactly the rows of the commit records."""
        for table in manifests.keys() - {FAILURES}:
            committed = Counter(map(repr, self._committed_rows(table)))
            if Counter(map(repr, manifests[table])) != committed:
                place = manifest_path(table, self._shard)
                self._audit.add("accord", place, "differs from the commit records of its units")
        if FAILURES in manifests:
            self._check_failures(manifests[FAILURES])

    def _check_failures(self, rows: list[Failure]) -> None:
        recorded: set[str] = set()
        for units in self._units.values():
            for unit in sorted(units.failed):
                read = partial(units.failure, unit)
                failure = self._read("record", units.place(unit), read, None)
                recorded |= {failure.story_id} if failure else set()
        for story_id in sorted(recorded ^ {row.story_id for row in rows}):
            place = manifest_path(FAILURES, self._shard)
            message = f"{story_id}: failed by its records or by the manifest, not by both"
            self._audit.add("accord", place, message)

    def _check_units(self, story_ids: set[str]) -> None:
        """Check that all records are of units that the shard has."""
        shots = self._committed_rows(SHOTS)
        of_shots = {f"{shot.story_id}.{shot.shot_index:04d}" for shot in shots}
        for spec in self._job.stages:
            units = of_shots if spec.unit_of is UnitOf.SHOT else story_ids
            place = folder(spec.name, self._shard)
            check_orphans(self._audit, self._output, place, partial(is_record, units))

    def _check_files(self) -> None:
        """Read all files of done units, and look for files in their folders that no record names.

        Intermediate files that were removed after their story was finished are not missed. What was
        rendered before an edit stays, but counts no more: it is not read.
        """
        owners: dict[str, tuple[StageSpec, str]] = {}
        files: list[File] = []
        for spec in (spec for spec in self._job.stages if spec.files):
            paths = self._earlier_files(spec)
            for unit, records in self._made[spec.name].items():
                removed = spec.intermediate and spec.story_of(unit) in self._removed
                for file in (file for record in records for file in files_of(record)):
                    paths.append(file.path)
                    owners[file.path] = (spec, unit)
                    files += [] if removed else [file]
            self._check_folders(spec, paths)
        for path, message in read_files(self._audit, self._output, files):
            self._damaged("file", path, message, self._remake(*owners[path]))

    def _earlier_files(self, spec: StageSpec) -> list[str]:
        """The files that a stage made for earlier generations of the shard."""
        earlier = earlier_generations(self._shard)
        rows = [row for shard in earlier for row in rows_of(self._output, shard, spec)]
        self._known.earlier.update(row.story_id for row in rows)
        return [file.path for row in rows for file in files_of(row)]

    def _check_folders(self, spec: StageSpec, paths: Iterable[str]) -> None:
        """Check that the folders of a stage's files contain no others."""
        folders: dict[str, set[str]] = {}
        for place in map(PurePosixPath, paths):
            folders.setdefault(str(place.parent), set()).add(place.name)
        for parent, names in folders.items():
            if spec.files and spec.files.suffixes:
                self._known.files.setdefault(parent, set()).update(names)
            else:
                check_orphans(self._audit, self._output, parent, names.__contains__)

    def _remake(self, spec: StageSpec, name: str) -> tuple[Ended, ...]:
        """Return a unit with all that has to be forgotten so that it can be made again.

        That is also whatever its story was given up for, and the units that made its sources, if
        the story's intermediate files were removed.
        """
        story_id = spec.story_of(name)
        units = [self._ended(spec.name, name)]
        if story_id in self._removed:
            sources = (self._job.stages[source] for source in spec.made_from)
            for source in (source for source in sources if source.intermediate):
                done = sorted(self._units[source.name].done)
                of_story = (unit for unit in done if source.story_of(unit) == story_id)
                units += [self._ended(source.name, unit) for unit in of_story]
        return (*units, *self._given_up(story_id))

    def _given_up(self, story_id: str | None = None) -> tuple[Ended, ...]:
        """Return the units that were given up, of one story or of the whole shard."""
        return tuple(
            self._ended(spec.name, unit)
            for spec in self._job.stages
            for unit in sorted(self._units[spec.name].failed)
            if story_id in (None, spec.story_of(unit))
        )

    def _ended(self, stage: str, name: str) -> Ended:
        return Ended(stage=stage, shard=str(self._shard), name=name)


def read_files(audit: Audit, output: Output, files: Iterable[File]) -> Iterator[tuple[str, str]]:
    """Compare the checksums of files; yield path and message of each missing or damaged one."""

    def check(file: File) -> tuple[str, str]:
        try:
            output.check(file)
        except (OSError, ValueError) as error:
            return file.path, str(error).removeprefix(f"{file.path}: ")
        return file.path, ""

    with ThreadPoolExecutor(max_workers=READERS) as readers:
        for path, message in readers.map(check, files):
            audit.num_files += 1
            if message:
                yield path, message


def check_orphans(
    audit: Audit, output: Output, place: str, is_known: Callable[[str], bool]
) -> None:
    """Add a problem for each name in a folder that is not known."""
    for name in filterfalse(is_known, output.names(place)):
        audit.add("orphan", f"{place}/{name}", "does not belong to any record of the job")
