"""The lock of an output: at most one run publishes there at a time.

Lock records are files `lock/00000007.json`, each created exclusively (`Output.publish_new`); the
highest number holds the lock. Its holder renews the file every `BEAT_S` and marks it as released at
the end. A lock is taken over by creating the next number, in which only one process can succeed:

- at once if the holder ran on this machine and is dead;
- if the holder is on another machine, once its record has not changed for `STALE_S`, measured with
  our own clock only: clocks of two machines are never compared.

A holder that finds a higher number than its own has lost the lock and must not publish any more
(fencing).
"""

import logging
import math
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from storyreel.stages.errors import InputError, LockedError, StorageError
from storyreel.stages.output.processes import ProcessId
from storyreel.stages.output.records import File
from storyreel.stages.output.serialization import to_json
from storyreel.stages.output.storage import Output

LOCK = "lock"
"""Folder of the lock records at an output."""

DIGITS = 8
"""Digits of the number of a lock record, at least."""

CHECK_S = 5.0
"""Interval at which a holder that publishes files checks that it still holds the lock, seconds."""

BEAT_S = 10.0
"""Interval at which a holder renews its lock record, seconds."""

STALE_S = 60.0
"""Time without renewal after which a holder on another machine counts as dead, seconds."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LockRecord:
    """The holder of an output's lock.

    Attributes:
        holder: name of the holder, such as the flow run.
        since: start, in ISO 8601.
        process: the holder's process.
        token: makes every record unique, as `Output.publish_new` needs.
        beat: number of renewals.
        released: True once the holder has ended properly.
    """

    holder: str
    since: str
    process: ProcessId
    token: str
    beat: int
    released: bool

    def __str__(self) -> str:
        process = self.process
        return f"{self.holder} (host {process.host}, process {process.pid}, since {self.since})"

    @classmethod
    def by(cls, holder: str) -> Self:
        """Construct a new record for this process."""
        return cls(
            holder=holder,
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            process=ProcessId.current(),
            token=uuid.uuid4().hex,
            beat=0,
            released=False,
        )


class HeldOutput(Output):
    """An output whose lock this process holds: publishing fails once the lock is lost."""

    def __init__(self, url: str, number: int) -> None:
        """Open the output whose lock record `number` is ours."""
        super().__init__(url)
        self.renewed_at = time.time()
        """When the lock was last renewed, in seconds since the epoch."""
        self._number = number
        self._checked_at = -math.inf

    def check_held(self) -> None:
        """Check that no other run has taken the lock over.

        Raises:
            LockedError: one has; the message says which.
        """
        numbers = _numbers(self)
        if numbers and numbers[-1] > self._number:
            raise LockedError(
                f"output {self.url}: was taken over by {read_lock(self, numbers[-1])};"
                " this run publishes nothing more"
            )
        self._checked_at = time.monotonic()

    def _check_held_lately(self) -> None:
        """Check it at most every `CHECK_S`: nothing counts before its commit, which is checked."""
        if not 0 <= time.monotonic() - self._checked_at < CHECK_S:
            self.check_held()

    def publish(self, path: str, content: bytes) -> File:
        """Publish `content`; raises LockedError if the lock is lost."""
        self._check_held_lately()
        return super().publish(path, content)

    def publish_new(self, path: str, content: bytes) -> bool:
        """Publish `content` unless `path` exists; raises LockedError if the lock is lost."""
        self._check_held_lately()
        return super().publish_new(path, content)

    def publish_file(self, path: str, local: Path) -> File:
        """Publish a copy of a local file; raises LockedError if the lock is lost."""
        self._check_held_lately()
        return super().publish_file(path, local)


@contextmanager
def held(output: Output, holder: str) -> Iterator[HeldOutput]:
    """Hold the lock of an output, which excludes all processes on all machines.

    Temporary files of dead processes are removed at the beginning and at the end.

    Args:
        output: the output to lock.
        holder: name that others are shown, such as that of the flow run.

    Yields:
        The output, for everything that only the holder may publish.

    Raises:
        LockedError: another process holds the lock; the message says which.
    """
    record = LockRecord.by(holder)
    number = _acquire(output, record)
    output.remove_leftovers()
    mine = HeldOutput(output.url, number)
    over = threading.Event()
    renewing = threading.Thread(
        target=_renew, args=(mine, number, record, over), name="lock", daemon=True
    )
    renewing.start()
    try:
        yield mine
    finally:
        over.set()
        renewing.join()
        output.remove_leftovers()
        if _numbers(output)[-1:] == [number]:
            _write(output, number, replace(record, released=True))


def holder_of(output: Output) -> LockRecord | None:
    """Return the record of the holder; `None` if it released the lock or is known to be dead."""
    numbers = _numbers(output)
    record = read_lock(output, numbers[-1]) if numbers else None
    return None if record is None or record.released or record.process.is_dead else record


def read_lock(output: Output, number: int) -> LockRecord:
    """Read the lock record of that number.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return output.read_record(_path(number), LockRecord)
    except (FileNotFoundError, InputError) as error:
        raise InputError(f"lock of the output: {error}") from error


def _acquire(output: Output, record: LockRecord) -> int:
    numbers = _numbers(output)
    last = numbers[-1] if numbers else 0
    if last:
        _wait_until_free(output, last)
    number = last + 1
    if not output.publish_new(_path(number), to_json(record)):
        raise _locked(output, read_lock(output, number))
    for old in numbers[:-1]:
        output.remove(_path(old))
    return number


def _wait_until_free(output: Output, number: int) -> None:
    """Return once the lock is free; a holder on another machine is watched for a renewal."""
    record = read_lock(output, number)
    if record.released or record.process.is_dead:
        return
    if record.process.is_near:
        raise _locked(output, record)
    logger.warning("output %s: waiting for a renewal of the lock by %s", output.url, record)
    deadline = time.monotonic() + STALE_S
    while time.monotonic() < deadline:
        time.sleep(min(1.0, STALE_S / 10))
        now = read_lock(output, number)
        if now.released:
            return
        if now.beat != record.beat:
            raise _locked(output, now)


def _renew(output: HeldOutput, number: int, record: LockRecord, over: threading.Event) -> None:
    beat = 0
    while not over.wait(BEAT_S):
        if _numbers(output)[-1:] > [number]:
            logger.error("output %s: another run has taken over the lock", output.url)
            return
        beat += 1
        try:
            _write(output, number, replace(record, beat=beat))
            output.renewed_at = time.time()
        except StorageError:
            logger.exception("output %s: the lock cannot be renewed", output.url)


def _locked(output: Output, record: LockRecord) -> LockedError:
    return LockedError(
        f"output {output.url}: is held by {record}; wait until that run ends, or stop it"
    )


def _numbers(output: Output) -> list[int]:
    return output.numbers(LOCK, DIGITS)


def _path(number: int) -> str:
    return f"{LOCK}/{number:0{DIGITS}d}.json"


def _write(output: Output, number: int, record: LockRecord) -> None:
    output.publish(_path(number), to_json(record))
