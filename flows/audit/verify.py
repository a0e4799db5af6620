"""Audits an output: every story once, every file there and whole, every record and seal in accord.

Works shard by shard; over the whole output it keeps no more than the names of the stories.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from rich.console import Console
from rich.table import Table

from storyreel.flows.job.job import REJECTED, Job, read_job
from storyreel.flows.job.retention import read_removed
from storyreel.flows.run.shards import STAGES
from storyreel.flows.views.terminal import plain
from storyreel.stages.input.references import FOLDER as REFERENCES
from storyreel.stages.output.commits import (
    ATTEMPTED,
    COMMITTED,
    FAILED,
    UnitId,
    folder,
    read_commit,
    read_failure,
    read_progress,
)
from storyreel.stages.output.manifests import STORIES, Shard, manifest_path, read_manifest
from storyreel.stages.output.records import (
    Clip,
    Failure,
    File,
    Film,
    Keyframe,
    Panel,
    Shot,
    Story,
    Storyboard,
    files_of,
)
from storyreel.stages.output.storage import Output

TABLES: dict[str, type] = {
    "panels": Panel,
    "shots": Shot,
    "keyframes": Keyframe,
    "clips": Clip,
    "films": Film,
    "failures": Failure,
}
"""The tables that seal a shard, in the order in which they are written."""

RECORDS: dict[str, type] = {
    "prompts": Storyboard,
    "keyframes": Keyframe,
    "motion": Clip,
    "films": Film,
}
"""What the units of each stage make."""

READERS = 8
"""Files that are read at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something about an output that is not as it must be."""

    kind: str
    place: str
    message: str


@dataclass(slots=True, kw_only=True)
class Audit:
    """What an audit has seen so far."""

    num_stories: int = 0
    num_films: int = 0
    num_failures: int = 0
    num_files: int = 0
    problems: list[Problem] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.num_stories} stories ({self.num_films} films, {self.num_failures} failures),"
            f" {self.num_files} files read, {len(self.problems)} problems"
        )

    def as_json(self) -> dict[str, Any]:
        """The audit as plain values."""
        return asdict(self)


def verify(output: Output) -> Audit:
    """Audit the job at an output; reads every file that a record names.

    Raises:
        ValueError: there is no job, or its `job.json` cannot be read.
    """
    job = read_job(output)
    verifier = _Verifier(job)
    there = set(output.names(f"manifests/{STORIES}"))
    for shard in job.shards:
        if PurePosixPath(manifest_path(STORIES, shard)).name in there:
            verifier.shard(shard)
        else:
            verifier.missing(shard)
    verifier.whole()
    return verifier.audit


def show_audit(audit: Audit, console: Console) -> None:
    """Print the problems, if any, and the counts."""
    if audit.problems:
        table = Table("kind", "place", "problem")
        for problem in audit.problems:
            table.add_row(*map(plain, asdict(problem).values()))
        console.print(table)
    console.print(str(audit), highlight=False)


class _Verifier:
    """Collects the problems of one job."""

    def __init__(self, job: Job) -> None:
        self.audit = Audit()
        self._job = job
        self._output = job.output
        self._stories: set[str] = set()
        self._films: set[str] = set()
        self._references: set[str] = set()

    def shard(self, shard: Shard) -> None:
        """Audit one shard: its stories, seals, records and files."""
        stories = self._read(STORIES, Story, shard)
        if len(stories) != self._job.size_of(shard):
            due = self._job.size_of(shard)
            path = manifest_path(STORIES, shard)
            self._tell("manifest", path, f"{len(stories)} stories of {due}")
        self._meet(shard, stories)
        tables = {table: self._read(table, kind, shard) for table, kind in self._sealed(shard)}
        if "failures" in tables:
            self._check_every_story_once(shard, stories, tables)
        else:
            self._tell("unfinished", str(shard), f"{len(stories)} stories are not all over yet")
        made = {stage: self._records(stage, shard) for stage in STAGES}
        self._check_accord(shard, tables, made)
        self._check_units(shard, {story.story_id for story in stories}, made["prompts"])
        self._check_files(shard, made)

    def missing(self, shard: Shard) -> None:
        """Say of a shard that its stories are not there, and so nothing is known of it."""
        self._tell("manifest", manifest_path(STORIES, shard), "is missing")

    def whole(self) -> None:
        """Audit what belongs to no single shard."""
        self._check_rejected()
        for name in self._output.names("manifests"):
            if name in TABLES or name == STORIES:
                self._check_names_of_manifests(name)
        for place in ("keyframes", "clips"):
            self._orphans(place, lambda name: name in self._stories)
        self._orphans("films", lambda name: PurePosixPath(name).stem in self._films)
        self._orphans(REFERENCES, lambda name: f"{REFERENCES}/{name}" in self._references)
        files = (
            File(path=path, size=0, sha256=PurePosixPath(path).stem)
            for path in sorted(self._references)
        )
        self._read_files(files)

    def _tell(self, kind: str, place: str, message: str) -> None:
        self.audit.problems.append(Problem(kind=kind, place=place, message=message))

    def _try(self, kind: str, place: str, read: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return read()
        except FileNotFoundError:
            self._tell(kind, place, "is missing")
        except ValueError as error:
            self._tell(kind, place, str(error).removeprefix(f"{place}: "))
        return otherwise

    def _read(self, table: str, record: type, shard: Shard) -> list[Any]:
        path = manifest_path(table, shard)
        rows: list[Any] = self._try(
            "manifest", path, lambda: read_manifest(self._output, path, record), []
        )
        return rows

    def _sealed(self, shard: Shard) -> list[tuple[str, type]]:
        """The tables that are there; those before the last one that is there must be too."""
        there = [t for t in TABLES if self._output.exists(manifest_path(t, shard))]
        last = max((list(TABLES).index(table) for table in there), default=0)
        for table in list(TABLES)[:last]:
            if table not in there:
                self._tell("seal", manifest_path(table, shard), "is missing, a later one is there")
        return [(table, TABLES[table]) for table in there]

    def _meet(self, shard: Shard, stories: list[Story]) -> None:
        for story in stories:
            self.audit.num_stories += 1
            if story.story_id in self._stories:
                self._tell("story", story.story_id, f"is in more than one shard, again in {shard}")
            self._stories.add(story.story_id)
            images = [character.reference_image for character in story.characters]
            images += [panel.control_image for panel in story.panels]
            self._references.update(image for image in images if image is not None)

    def _check_every_story_once(
        self, shard: Shard, stories: list[Story], tables: dict[str, list[Any]]
    ) -> None:
        films, failures = tables.get("films", []), tables["failures"]
        self.audit.num_films += len(films)
        self.audit.num_failures += len(failures)
        over = Counter(row.story_id for row in (*films, *failures))
        for story in stories:
            if over[story.story_id] != 1:
                count = over[story.story_id]
                self._tell("story", story.story_id, f"is {count} times among films and failures")
        for story_id in over.keys() - {story.story_id for story in stories}:
            self._tell("story", story_id, f"is over in {shard}, but is none of its stories")

    def _records(self, stage: str, shard: Shard) -> list[Any]:
        """All records that the units of a shard's stage committed."""
        records: list[Any] = []
        for name in sorted(read_progress(self._output, stage, shard).done):
            unit = _unit(stage, shard, name)
            place = f"{folder(stage, shard)}/{name}{COMMITTED}"
            made = self._try(
                "record", place, partial(read_commit, self._output, unit, RECORDS[stage]), None
            )
            records += made.records if made else ()
        return records

    def _check_accord(
        self, shard: Shard, tables: dict[str, list[Any]], made: dict[str, list[Any]]
    ) -> None:
        """Manifests hold exactly what the commit records hold."""
        committed = {
            "panels": [panel for storyboard in made["prompts"] for panel in storyboard.panels],
            "shots": [shot for storyboard in made["prompts"] for shot in storyboard.shots],
            "keyframes": made["keyframes"],
            "clips": made["motion"],
            "films": made["films"],
        }
        for table, rows in tables.items():
            place = manifest_path(table, shard)
            if table == "failures":
                self._check_failures(shard, rows)
            elif Counter(map(repr, rows)) != Counter(map(repr, committed[table])):
                self._tell("accord", place, "differs from the commit records of its units")

    def _check_failures(self, shard: Shard, rows: list[Failure]) -> None:
        recorded: set[str] = set()
        for stage in STAGES:
            for name in read_progress(self._output, stage, shard).failed:
                place = f"{folder(stage, shard)}/{name}{FAILED}"
                failure = self._try(
                    "record",
                    place,
                    partial(read_failure, self._output, stage, shard, name),
                    None,
                )
                recorded |= {failure.story_id} if failure else set()
        for story_id in sorted(recorded ^ {row.story_id for row in rows}):
            text = f"{story_id}: is given up by its records or by the manifest, not by both"
            self._tell("accord", manifest_path("failures", shard), text)

    def _check_units(self, shard: Shard, story_ids: set[str], boards: list[Storyboard]) -> None:
        """No record is of a unit that the shard does not have."""
        shots = {f"{shot.story_id}.{shot.shot_index:04d}" for b in boards for shot in b.shots}
        for stage in STAGES:
            units = shots if stage == "motion" else story_ids
            known = {name + end for name in units for end in (COMMITTED, FAILED, ATTEMPTED)}
            self._orphans(folder(stage, shard), known.__contains__)

    def _check_files(self, shard: Shard, made: dict[str, list[Any]]) -> None:
        removed = self._try("record", str(shard), lambda: read_removed(self._output, shard), set())
        self._films |= {film.story_id for film in made["films"]}
        pictures = [*made["keyframes"], *made["motion"]]
        due: dict[str, set[str]] = {}
        for record in pictures:
            due.setdefault(str(PurePosixPath(record.path).parent), set()).add(record.path)
        there = [picture for picture in pictures if picture.story_id not in removed]
        self._read_files(file for record in (*there, *made["films"]) for file in files_of(record))
        for place, paths in due.items():
            self._orphans(place, {PurePosixPath(path).name for path in paths}.__contains__)

    def _read_files(self, files: Iterable[File]) -> None:
        with ThreadPoolExecutor(max_workers=READERS) as readers:
            for path, wrong in readers.map(self._check_file, files):
                self.audit.num_files += 1
                if wrong:
                    self._tell("file", path, wrong)

    def _check_file(self, file: File) -> tuple[str, str]:
        try:
            self._output.check(file)
        except (OSError, ValueError) as error:
            return file.path, str(error).removeprefix(f"{file.path}: ")
        return file.path, ""

    def _check_rejected(self) -> None:
        rows: list[Failure] = []
        if self._job.num_rejected or self._output.exists(REJECTED):
            rows = self._try(
                "manifest", REJECTED, lambda: read_manifest(self._output, REJECTED, Failure), []
            )
        self.audit.num_failures += len(rows)
        if len(rows) != self._job.num_rejected:
            due = self._job.num_rejected
            self._tell("manifest", REJECTED, f"{len(rows)} refused rows of {due}")

    def _check_names_of_manifests(self, table: str) -> None:
        newest = {shard.index: shard for shard in self._job.shards}

        def known(name: str) -> bool:
            shard = Shard.of_manifest(name)
            if shard is None:
                return f"manifests/{table}/{name}" == REJECTED
            mine = newest.get(shard.index)
            same = mine is not None and shard.count == mine.count
            return same and mine is not None and shard.generation <= mine.generation

        self._orphans(f"manifests/{table}", known)

    def _orphans(self, place: str, known: Callable[[str], bool]) -> None:
        for name in self._output.names(place):
            if not known(name):
                self._tell("orphan", f"{place}/{name}", "belongs to no record of the job")


def _unit(stage: str, shard: Shard, name: str) -> UnitId:
    """The unit of that name, for reading its record."""
    return UnitId(stage=stage, shard=shard, story_id=name)
