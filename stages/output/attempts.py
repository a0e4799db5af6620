"""Attempts of units: how many there were, and under which names each publishes its files.

A worker that was cut off from the cluster may come back after its unit was done elsewhere. So every
attempt creates a record of its own, exclusively, before its stage is called; and an attempt whose
predecessor may still be writing publishes its files under names of its own: the second copy of
`films/fox.mp4` is `films/fox~2.mp4`. The commit record names the files that count.
"""

import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from storyreel.stages.output.processes import ProcessId
from storyreel.stages.output.serialization import to_json
from storyreel.stages.output.storage import Output

UNIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""Names of units; others in their folders are not ours, such as a cloud drive's copies."""

_NAME = re.compile(rf"({UNIT_NAME.pattern})\.attempt-([0-9]{{4,}})\.json")
_OLD_SUFFIX = ".attempts.json"
"""Version 0.1 had one record a unit, that each attempt replaced; it counts as number 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """What an attempt writes before its stage is called.

    Attributes:
        attempts: attempts of the unit so far that count, this one included.
        copy: number of the names that its files get, from 1.
        writer: the process of the worker.
        failed: True once the attempt has ended with an error, so that it writes nothing more.
        token: makes every record unique, as `Output.publish_new` needs.
    """

    attempts: int
    copy: int
    writer: ProcessId
    failed: bool = False
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def is_over(self) -> bool:
        """True if the attempt is known to write nothing more."""
        return self.failed or self.writer.is_dead


@dataclass(frozen=True, slots=True, kw_only=True)
class _OldRecord:
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """An attempt that has begun, and its record, number `number` of the unit."""

    unit: str
    number: int
    record: AttemptRecord

    @property
    def is_first(self) -> bool:
        """True if nobody has begun the unit before, so that nobody can have committed it."""
        return self.number == 1


def begin(output: Output, unit: str, attempts: int, first_copy: int = 1) -> Begun:
    """Record that an attempt begins; two attempts never get the same record.

    Args:
        unit: path of the unit's records without suffix, such as `units/films/00000-of-00001/fox`.
        attempts: attempts so far that count, this one included.
        first_copy: the first copy whose names do not belong to an earlier generation.
    """
    number = attempts
    while True:
        record = AttemptRecord(
            attempts=attempts,
            copy=max(first_copy, _next_copy(output, unit, number)),
            writer=ProcessId.current(),
        )
        if output.publish_new(record_of(unit, number), to_json(record)):
            return Begun(unit=unit, number=number, record=record)
        number += 1


def _next_copy(output: Output, unit: str, number: int) -> int:
    """Return the copy number of an attempt: that of the one before it if that one is over."""
    for earlier in range(number - 1, 0, -1):
        before = _read(output, unit, earlier)
        if before is not None:
            return before.copy if before.is_over else before.copy + 1
    return 1


def fail(output: Output, begun: Begun) -> None:
    """Record that an attempt of this process has failed."""
    content = to_json(replace(begun.record, failed=True))
    output.publish(record_of(begun.unit, begun.number), content)


def finish(output: Output, begun: Begun) -> None:
    """Remove the attempt records of a unit that is committed, and that this process has tried.

    That of a first attempt stays until the unit's records are packed: many go in one request then.
    """
    if not begun.is_first:
        settle(output, begun.unit, begun.number - 1)
        output.remove(record_of(begun.unit, begun.number))


def settle(output: Output, unit: str, last: int) -> None:
    """Let no attempt of a unit count any more, the last of which has the number `last`.

    The record of a worker that may be alive stays: no later attempt must get its file names.
    """
    for number in range(last, 0, -1):
        record = _read(output, unit, number)
        if record is not None and record.is_over:
            output.remove(record_of(unit, number))
        elif record is not None:
            output.publish(record_of(unit, number), to_json(replace(record, attempts=0)))
    output.remove(f"{unit}{_OLD_SUFFIX}")


def excuse(output: Output, unit: str, last: int, attempts: int) -> None:
    """Let only `attempts` attempts count: the last one was ended by its pool."""
    if (record := _read(output, unit, last)) is not None:
        content = to_json(replace(record, attempts=attempts))
        output.publish(record_of(unit, last), content)


def last_attempts(names: Iterable[str]) -> dict[str, int]:
    """Return the units with attempt records among the names in a folder, each with its last number.

    The number is 0 for a record of version 0.1.
    """
    last: dict[str, int] = {}
    for name in names:
        if (found := _NAME.fullmatch(name)) is not None:
            last[found[1]] = max(int(found[2]), last.get(found[1], 0))
        elif UNIT_NAME.fullmatch(unit := name.removesuffix(_OLD_SUFFIX)) and unit != name:
            last.setdefault(unit, 0)
    return last


def count_attempts(output: Output, unit: str, last: int) -> int:
    """Return how many attempts of a unit count, by its last attempt record.

    Raises:
        FileNotFoundError: there is no such record.
        InputError: it is damaged.
    """
    if last:
        return output.read_record(record_of(unit, last), AttemptRecord).attempts
    return output.read_record(f"{unit}{_OLD_SUFFIX}", _OldRecord).attempts


def _read(output: Output, unit: str, number: int) -> AttemptRecord | None:
    try:
        return output.read_record(record_of(unit, number), AttemptRecord)
    except FileNotFoundError:
        return None


def record_of(unit: str, number: int) -> str:
    """Return the path of the record of an attempt of a unit, from 1."""
    return f"{unit}.attempt-{number:04d}.json"
