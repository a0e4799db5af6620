"""Commit records: the small files that say that a unit is over, and what it made or why it failed.

A unit's record is published after its files and is the only truth about its completion. Attempts
are recorded before a unit is handed to a worker, so that one that kills everything is not tried for
ever.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from storyreel.stages.output.manifests import Shard
from storyreel.stages.output.records import Failure, check_places, from_row, to_row
from storyreel.stages.output.storage import Output

R = TypeVar("R")

COMMITTED = ".done.json"
FAILED = ".failed.json"
ATTEMPTED = ".attempts.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitId:
    """Names a unit: a stage's work on one story, or on one shot of it."""

    stage: str
    shard: Shard
    story_id: str
    shot_index: int | None = None

    @property
    def name(self) -> str:
        """The unit within its stage and shard."""
        return (
            self.story_id if self.shot_index is None else f"{self.story_id}.{self.shot_index:04d}"
        )

    def __str__(self) -> str:
        return f"{self.stage}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit(Generic[R]):
    """What a finished unit made, how often it was tried, and what its last attempt took.

    `seconds` is the time of the stage's call on the worker, `hardware` what it computed on.
    """

    records: tuple[R, ...]
    attempts: int
    worker: str
    seconds: float
    hardware: str


def folder(stage: str, shard: Shard) -> str:
    """Where the records of a shard's units of one stage stand."""
    return f"units/{stage}/{shard}"


def _path(unit: UnitId, suffix: str) -> str:
    return f"{folder(unit.stage, unit.shard)}/{unit.name}{suffix}"


def commit(output: Output, unit: UnitId, made: Commit[Any]) -> None:
    """Say that a unit is done; its files must be published already."""
    content = {
        "records": [to_row(record) for record in made.records],
        "attempts": made.attempts,
        "worker": made.worker,
        "seconds": made.seconds,
        "hardware": made.hardware,
    }
    output.publish(_path(unit, COMMITTED), _encode(content))
    output.remove(_path(unit, ATTEMPTED))


def commit_failure(output: Output, unit: UnitId, failure: Failure) -> None:
    """Say that a unit is given up."""
    output.publish(_path(unit, FAILED), _encode(to_row(failure)))
    output.remove(_path(unit, ATTEMPTED))


def record_attempt(output: Output, unit: UnitId, attempts: int) -> None:
    """Say, before a unit is handed to a worker, that it is tried for the `attempts`-th time."""
    output.publish(_path(unit, ATTEMPTED), _encode({"attempts": attempts}))


def read_commit(output: Output, unit: UnitId, record: type[R]) -> Commit[R]:
    """What a finished unit made, its records being of class `record`.

    Raises:
        FileNotFoundError: there is no such commit record.
        ValueError: it is not one, or not of this class.
    """
    path = _path(unit, COMMITTED)
    with _naming(path):
        content = _decode(output.read(path))
        records = tuple(from_row(record, row) for row in content["records"])
        for made in records:
            check_places(made)
        return Commit(
            records=records,
            attempts=int(content["attempts"]),
            worker=str(content["worker"]),
            seconds=float(content["seconds"]),
            hardware=str(content["hardware"]),
        )


def read_failure(output: Output, stage: str, shard: Shard, name: str) -> Failure:
    """Why the unit of that name was given up.

    Raises:
        FileNotFoundError: there is no such record.
        ValueError: it is not one.
    """
    path = f"{folder(stage, shard)}/{name}{FAILED}"
    with _naming(path):
        failure = from_row(Failure, _decode(output.read(path)))
        check_places(failure)
        return failure


def read_attempts(output: Output, unit: UnitId) -> int:
    """How often a unit that is not over was tried.

    Raises:
        FileNotFoundError: there is no such record.
        ValueError: it is not one.
    """
    path = _path(unit, ATTEMPTED)
    with _naming(path):
        return int(_decode(output.read(path))["attempts"])


def forgive(output: Output, stage: str, shard: Shard, name: str) -> None:
    """Forget how a unit ended, so that it is tried again."""
    for suffix in (FAILED, COMMITTED):
        output.remove(f"{folder(stage, shard)}/{name}{suffix}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Which units of a shard's stage are done, given up, or were tried without an end."""

    done: frozenset[str]
    failed: frozenset[str]
    attempted: frozenset[str]


def read_progress(output: Output, stage: str, shard: Shard) -> Progress:
    """One listing of the records of a shard's stage, by the units' names.

    A unit with several records (a writer was killed between two of them, or came late) counts as
    done before it counts as given up, and as that before it counts as tried.
    """
    names = output.names(folder(stage, shard))
    done = _with_suffix(names, COMMITTED)
    failed = _with_suffix(names, FAILED) - done
    attempted = _with_suffix(names, ATTEMPTED) - done - failed
    return Progress(done=done, failed=failed, attempted=attempted)


def _with_suffix(names: Sequence[str], suffix: str) -> frozenset[str]:
    return frozenset(name.removesuffix(suffix) for name in names if name.endswith(suffix))


def _encode(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False).encode()


def _decode(content: bytes) -> dict[str, Any]:
    value = json.loads(content)
    if not isinstance(value, dict):
        raise ValueError("must hold a mapping")
    return value


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Say in which record something is wrong."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"{path}: not a readable record: lacks {error}") from None
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise ValueError(f"{path}: not a readable record: {error}") from None
