"""The records of all units of a stage in a shard: each has a file of its own until they are packed.

Once a stage of a shard is complete, the commit and failure records of its units are packed into one
Parquet file, and their own files are removed: at 100,000 stories there would be millions.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from storyreel.stages.errors import InputError
from storyreel.stages.output.attempts import UNIT_NAME, last_attempts, record_of, settle
from storyreel.stages.output.commits import (
    COMMITTED,
    FAILED,
    Commit,
    folder,
)
from storyreel.stages.output.manifests import (
    READERS,
    Shard,
    check_fingerprint,
    read_manifest,
    write_manifest,
)
from storyreel.stages.output.records import Failure
from storyreel.stages.output.serialization import from_json, to_json
from storyreel.stages.output.storage import Output

R = TypeVar("R")

PACK = "packed.parquet"
"""Name of the packed records among the files of a stage in a shard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedRecord:
    """A commit or failure record of a unit: the name and the content that its own file had."""

    name: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitRecords:
    """The records of the units of a stage in a shard, found by one listing of their folder.

    A unit may have several records, if a writer was killed between two of them or came late. A
    packed one counts before all others, done counts before failed, and failed before tried.

    Attributes:
        done: names of the units that are done.
        failed: names of those that were given up.
        attempted: the other units that were tried, each with the number of its last attempt record.
    """

    output: Output
    stage: str
    shard: Shard
    done: frozenset[str]
    failed: frozenset[str]
    attempted: Mapping[str, int]
    _packed: Mapping[str, str]
    """Packed records: content by file name."""
    _names: tuple[str, ...]
    """Names of the files that were found."""

    @classmethod
    def find(cls, output: Output, stage: str, shard: Shard) -> Self:
        """Find the records of a stage in a shard.

        Raises:
            InputError: the packed records are damaged.
        """
        names = output.names(folder(stage, shard))
        packed = _read_pack(output, stage, shard) if PACK in names else {}
        return cls.of(output, stage, shard, names=names, packed=packed)

    @classmethod
    def find_unpacked(cls, output: Output, stage: str, shard: Shard) -> Self:
        """Find the records that have a file of their own."""
        names = output.names(folder(stage, shard))
        return cls.of(output, stage, shard, names=names, packed={})

    @classmethod
    def of(
        cls,
        output: Output,
        stage: str,
        shard: Shard,
        *,
        names: Sequence[str],
        packed: Mapping[str, str],
    ) -> Self:
        """Sort the records of a stage in a shard.

        Args:
            names: the files in their folder.
            packed: the content of the packed ones, by their names.
        """
        in_pack = _units(packed, COMMITTED) | _units(packed, FAILED)
        done = _units(packed, COMMITTED) | (_units(names, COMMITTED) - in_pack)
        failed = (_units(packed, FAILED) | (_units(names, FAILED) - in_pack)) - done
        tried = last_attempts(names).items()
        return cls(
            output=output,
            stage=stage,
            shard=shard,
            done=done,
            failed=failed,
            attempted={name: last for name, last in tried if name not in done | failed},
            _packed=packed,
            _names=tuple(names),
        )

    @property
    def ended(self) -> frozenset[str]:
        """Names of the units that are done or failed."""
        return self.done | self.failed

    def place(self, name: str) -> str:
        """Return the path of the record of a unit that has ended."""
        record = self._record(name)
        return pack_path(self.stage, self.shard) if record in self._packed else self._path(record)

    def commit(self, name: str, record: type[R], *, fingerprint: str | None = None) -> Commit[R]:
        """Read the commit record of a unit that is done, which made records of class `record`.

        Args:
            fingerprint: refuse a commit record that was written for another job than this one.

        Raises:
            FileNotFoundError: it was removed meanwhile.
            InputError: it is damaged, or of another record class or job.
        """
        kind: type[Commit[R]] = Commit[record]  # type: ignore[valid-type]
        made = self._read(name + COMMITTED, kind)
        if fingerprint is not None:
            try:
                check_fingerprint(made.fingerprint, fingerprint)
            except InputError as error:
                raise InputError(f"{self.place(name)}: {error}") from error
        return made

    def failure(self, name: str) -> Failure:
        """Read why a unit has failed.

        Raises:
            FileNotFoundError: the record was removed meanwhile.
            InputError: it is damaged.
        """
        return self._read(name + FAILED, Failure)

    def map(self, read: Callable[[str], R], names: Iterable[str]) -> Iterator[R]:
        """Yield `read(name)` for units, several at a time."""
        with ThreadPoolExecutor(READERS, thread_name_prefix="records") as readers:
            yield from readers.map(read, names)

    def pack(self, known: Mapping[str, Commit[Any] | Failure]) -> None:
        """Pack the records of the units that have ended, and remove their own files.

        The record of a unit keeps its file while an attempt of the unit may be alive, which learns
        from it that it comes too late.

        Args:
            known: records by the name of the unit; they are not read again.
        """
        own = sorted(name for name in self.ended if self._record(name) not in self._packed)
        if own:
            read = self.map(lambda name: self._content(name, known.get(name)), own)
            contents = dict(zip(map(self._record, own), read, strict=True))
            _write_pack(self.output, self.stage, self.shard, {**self._packed, **contents})
        alive = self._settle(self.ended)
        self.output.remove_all(
            self._path(name)
            for name in self._names
            if (unit := _unit_of(name)) is not None and unit not in alive
        )

    def _settle(self, units: Set[str]) -> Set[str]:
        """Settle the attempts of units that have ended; returns those with one that may live."""
        tried = {unit: last for unit, last in last_attempts(self._names).items() if unit in units}
        # Nobody else has begun such a unit, so that it was its first attempt that has committed.
        at_once = {unit for unit, last in tried.items() if last == 1 and self._is_fresh(unit)}
        self.output.remove_all(record_of(self._path(unit), 1) for unit in at_once)
        again = tried.keys() - at_once
        for unit in again:
            settle(self.output, self._path(unit), tried[unit])
        names = self.output.names(folder(self.stage, self.shard)) if again else []
        return last_attempts(names).keys()

    def _is_fresh(self, unit: str) -> bool:
        """True if a unit was done since the records were packed, if ever they were."""
        committed = unit + COMMITTED
        return committed in self._names and committed not in self._packed

    def forgive(self, names: Iterable[str]) -> None:
        """Remove the records that units are done or failed, so that they are tried again."""
        names = frozenset(names)
        self._settle(self.ended & names)
        gone = {name + suffix for name in names for suffix in (COMMITTED, FAILED)}
        if gone & self._packed.keys():
            left = {name: self._packed[name] for name in self._packed.keys() - gone}
            _write_pack(self.output, self.stage, self.shard, left)
        self.output.remove_all(self._path(name) for name in self._names if name in gone)

    def _record(self, name: str) -> str:
        return name + (COMMITTED if name in self.done else FAILED)

    def _path(self, record: str) -> str:
        return f"{folder(self.stage, self.shard)}/{record}"

    def _content(self, name: str, known: Commit[Any] | Failure | None) -> str:
        # A unit may be done by a worker that was late, although its pool has given it up.
        if known is not None and isinstance(known, Commit) == (name in self.done):
            return to_json(known).decode()
        # A damaged record stays damaged; whoever reads it says so.
        return self.output.read(self._path(self._record(name))).decode(errors="replace")

    def _read(self, record: str, kind: type[R]) -> R:
        if (content := self._packed.get(record)) is None:
            return self.output.read_record(self._path(record), kind)
        try:
            return from_json(kind, content.encode())
        except InputError as error:
            place = f"{pack_path(self.stage, self.shard)}: {record}"
            raise InputError(f"{place}: not readable: {error}") from error


def forgive(output: Output, stage: str, shard: Shard, names: Iterable[str]) -> None:
    """Remove the records that units are done or failed, so that they are tried again.

    Damaged packed records are removed as a whole: what they said of any unit is lost.
    """
    try:
        UnitRecords.find(output, stage, shard).forgive(names)
    except InputError:
        output.remove(pack_path(stage, shard))
        UnitRecords.find_unpacked(output, stage, shard).forgive(names)


def is_record(units: Set[str], name: str) -> bool:
    """Return True if a file in the folder of a stage's records is of one of these units."""
    unit = _unit_of(name) or next(iter(last_attempts([name])), None)
    return name == PACK or unit in units


def pack_path(stage: str, shard: Shard) -> str:
    """Return the path of the packed records of a stage in a shard."""
    return f"{folder(stage, shard)}/{PACK}"


def _read_pack(output: Output, stage: str, shard: Shard) -> dict[str, str]:
    records = read_manifest(output, pack_path(stage, shard), PackedRecord)
    return {record.name: record.content for record in records}


def _write_pack(output: Output, stage: str, shard: Shard, contents: Mapping[str, str]) -> None:
    records = [PackedRecord(name=name, content=contents[name]) for name in sorted(contents)]
    write_manifest(output, pack_path(stage, shard), PackedRecord, records, fingerprint="")


def _unit_of(name: str) -> str | None:
    """Return the unit whose commit or failure record has this file name."""
    for suffix in (COMMITTED, FAILED):
        unit = name.removesuffix(suffix)
        if unit != name and UNIT_NAME.fullmatch(unit):
            return unit
    return None


def _units(names: Iterable[str], suffix: str) -> frozenset[str]:
    own = (name for name in names if name.endswith(suffix))
    return frozenset(unit for unit in map(_unit_of, own) if unit)
