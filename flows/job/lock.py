"""One running flow per output: a claim with a number, renewed while its holder lives.

Claims are files `lock/00000007.json`, each created exclusively (`Output.publish_new`); the highest
number holds the output. Its holder renews the file from time to time, and marks it when it is
through. A claim is taken over by creating the next number, which only one of several can do:

- a holder that this machine can see and that is gone is followed at once;
- a holder elsewhere is followed if its claim stays as it is for `STALE_S` of our own time. No two
  clocks are compared.

Whoever finds a higher number than its own has lost the output, and publishes nothing there any
more (fencing).
"""

import json
import logging
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Self

from storyreel.stages.output.patience import StorageError
from storyreel.stages.output.processes import ProcessId
from storyreel.stages.output.records import File, from_row
from storyreel.stages.output.storage import NotHeldError, Output

LOCK = "lock"
"""Folder of the claims at an output."""

BEAT_S = 10.0
"""Time after which a holder renews its claim, seconds."""

STALE_S = 60.0
"""Time without a renewal after which a far holder counts as dead, seconds."""

logger = logging.getLogger(__name__)


class LockedError(NotHeldError):
    """Another run holds the output, or has taken it over; its message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Who claims an output; `beat` counts the renewals, `released` says that it is over.

    `token` makes every claim another one.
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
        """A new claim of this process."""
        return cls(
            holder=holder,
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            process=ProcessId.current(),
            token=uuid.uuid4().hex,
            beat=0,
            released=False,
        )


class HeldOutput(Output):
    """An output while this process holds it: publishing fails once it is lost."""

    def __init__(self, url: str, number: int) -> None:
        """Open the output that claim `number` holds."""
        super().__init__(url)
        self._number = number

    def check_held(self) -> None:
        """Make sure that nobody has taken the output over.

        Raises:
            LockedError: somebody has; the message says who.
        """
        numbers = _numbers(self)
        if numbers and numbers[-1] > self._number:
            raise LockedError(
                f"output {self.url}: was taken over by {read_claim(self, numbers[-1])};"
                " this run writes nothing any more"
            )

    def publish(self, path: str, content: bytes) -> File:
        """Publish, if the output is still held; LockedError if not."""
        self.check_held()
        return super().publish(path, content)

    def publish_file(self, path: str, local: Path) -> File:
        """Publish a file, if the output is still held; LockedError if not."""
        self.check_held()
        return super().publish_file(path, local)


@contextmanager
def held(output: Output, holder: str) -> Iterator[HeldOutput]:
    """Hold an output: one at a time, over processes and machines.

    What writers that are gone left unfinished is removed in the beginning and in the end.

    Args:
        output: what to hold.
        holder: names the holder to others, such as the flow run.

    Yields:
        The output for what only its holder may publish.

    Raises:
        LockedError: another process holds it; the message says which.
    """
    claim = Claim.by(holder)
    number = _acquire(output, claim)
    output.remove_leftovers()
    over = threading.Event()
    renewing = threading.Thread(
        target=_renew, args=(output, number, claim, over), name="lock", daemon=True
    )
    renewing.start()
    try:
        yield HeldOutput(output.url, number)
    finally:
        over.set()
        renewing.join()
        output.remove_leftovers()
        if _numbers(output)[-1:] == [number]:
            _write(output, number, replace(claim, released=True))


def holder_of(output: Output) -> Claim | None:
    """The claim on an output that is neither released nor known to be a dead process's."""
    numbers = _numbers(output)
    claim = read_claim(output, numbers[-1]) if numbers else None
    return None if claim is None or claim.released or claim.process.is_dead else claim


def read_claim(output: Output, number: int) -> Claim:
    """The claim of that number.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        return output.read_json(_path(number), partial(from_row, Claim))
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(f"claim on the output: {error}") from error


def _acquire(output: Output, claim: Claim) -> int:
    numbers = _numbers(output)
    last = numbers[-1] if numbers else 0
    if last:
        _wait_until_free(output, last)
    number = last + 1
    if not output.publish_new(_path(number), _encode(claim)):
        raise _locked(output, read_claim(output, number))
    for old in numbers[:-1]:
        output.remove(_path(old))
    return number


def _wait_until_free(output: Output, number: int) -> None:
    """Return once nobody works under the claim; a far holder is watched for a sign of life."""
    claim = read_claim(output, number)
    if claim.released or claim.process.is_dead:
        return
    if claim.process.is_near:
        raise _locked(output, claim)
    logger.warning("output %s: watching for a sign of life of %s", output.url, claim)
    deadline = time.monotonic() + STALE_S
    while time.monotonic() < deadline:
        time.sleep(min(1.0, STALE_S / 10))
        now = read_claim(output, number)
        if now.released:
            return
        if now.beat != claim.beat:
            raise _locked(output, now)


def _renew(output: Output, number: int, claim: Claim, over: threading.Event) -> None:
    beat = 0
    while not over.wait(BEAT_S):
        if _numbers(output)[-1:] > [number]:
            logger.error("output %s: another run has taken it over", output.url)
            return
        beat += 1
        try:
            _write(output, number, replace(claim, beat=beat))
        except StorageError:
            logger.exception("output %s: the claim on it cannot be renewed", output.url)


def _locked(output: Output, claim: Claim) -> LockedError:
    return LockedError(
        f"output {output.url}: is held by {claim}; wait until that run ends, or stop it"
    )


def _numbers(output: Output) -> list[int]:
    stems = (name.removesuffix(".json") for name in output.names(LOCK))
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def _path(number: int) -> str:
    return f"{LOCK}/{number:08d}.json"


def _write(output: Output, number: int, claim: Claim) -> None:
    output.publish(_path(number), _encode(claim))


def _encode(claim: Claim) -> bytes:
    return json.dumps(asdict(claim), indent=1, ensure_ascii=False).encode()
