"""Commit records: small files that say that a unit is done or has failed, and after which attempt.

The commit record of a unit is published after the unit's files, and alone says that the unit is
done. Attempts are recorded before a unit is sent to a worker, so that a unit that kills the whole
flow is not tried for ever.
"""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from storyreel.stages.output.attempts import (
    Begun,
    begin,
    count_attempts,
    excuse,
    last_attempts,
    settle,
)
from storyreel.stages.output.copies import earlier_copies
from storyreel.stages.output.manifests import Shard
from storyreel.stages.output.records import Failure, files_of
from storyreel.stages.output.serialization import to_json
from storyreel.stages.output.storage import Output

R = TypeVar("R")

COMMITTED = ".done.json"
FAILED = ".failed.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitId:
    """Identifies a unit: the work of a stage on one story, or on one shot of a story."""

    stage: str
    shard: Shard
    story_id: str
    shot_index: int | None = None

    @property
    def name(self) -> str:
        """Name of the unit, unique within its stage and shard."""
        return (
            self.story_id if self.shot_index is None else f"{self.story_id}.{self.shot_index:04d}"
        )

    def __str__(self) -> str:
        return f"{self.stage}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit(Generic[R]):
    """The commit record of a finished unit.

    Attributes:
        records: what the unit made.
        attempts: how often it was tried, the last time included.
        worker: name of the actor that finished it.
        seconds: duration of the stage's call in the last attempt.
        hardware: hardware class of the worker (see `stages.hardware`).
        fingerprint: that of the job that the unit belongs to; "" if it was not recorded.
        ended_at: when that attempt ended, in seconds since the epoch; 0 if it was not recorded.
        inputs: fingerprint of what the unit was made from; "" if it was not recorded.
    """

    records: tuple[R, ...]
    attempts: int
    worker: str
    seconds: float
    hardware: str
    fingerprint: str = ""
    ended_at: float = 0.0
    inputs: str = ""


def folder(stage: str, shard: Shard) -> str:
    """Return the folder of the records of a stage's units in a shard."""
    return f"units/{stage}/{shard}"


def _path(unit: UnitId, suffix: str) -> str:
    return f"{folder(unit.stage, unit.shard)}/{unit.name}{suffix}"


def commit(
    output: Output, unit: UnitId, made: Commit[Any], record: type[R], *, first_copy: int = 1
) -> Commit[R]:
    """Record that a unit is done; its files must be published before.

    Of several attempts the first one to commit counts; the files of the others are removed, by the
    one that counts and by those that come later. What was made from other inputs does not count:
    it is of a worker from before the story was edited.

    Args:
        first_copy: copies before this one belong to earlier generations and stay.

    Returns:
        The commit that counts.
    """
    paths = _paths(made)
    output.check_held()
    if output.publish_new(_path(unit, COMMITTED), to_json(made)):
        for earlier in (copy for path in paths for copy in earlier_copies(path, first_copy)):
            output.remove(earlier)
        return made
    kept = read_commit(output, unit, record)
    if kept.inputs != made.inputs:
        output.publish(_path(unit, COMMITTED), to_json(made))
        return made
    for path in paths - _paths(kept):
        output.remove(path)
    return kept


def _paths(made: Commit[Any]) -> set[str]:
    return {file.path for record in made.records for file in files_of(record)}


def commit_failure(output: Output, unit: UnitId, failure: Failure) -> None:
    """Record that a unit has failed for good; none of its attempts counts any more."""
    output.check_held()
    output.publish(_path(unit, FAILED), to_json(failure))
    if (last := last_attempt(output, unit)) is not None:
        settle(output, _path(unit, ""), last)


def begin_attempt(output: Output, unit: UnitId, attempts: int, first_copy: int = 1) -> Begun:
    """Record, before its stage is called, that a unit is tried for the `attempts`-th time."""
    return begin(output, _path(unit, ""), attempts, first_copy)


def excuse_attempt(output: Output, unit: UnitId, attempts: int) -> None:
    """Let only `attempts` attempts of a unit count; the last one was ended by its pool."""
    if (last := last_attempt(output, unit)) is not None:
        excuse(output, _path(unit, ""), last, attempts)


def find_commit(output: Output, unit: UnitId, record: type[R]) -> Commit[R] | None:
    """Return what another worker has made of a unit of this run; `None` if it is not done."""
    try:
        return read_commit(output, unit, record)
    except FileNotFoundError:
        return None


def read_commit(output: Output, unit: UnitId, record: type[R]) -> Commit[R]:
    """Read the commit record of a unit of this run, which made records of class `record`.

    Those of earlier runs may be packed (see `unit_records`).

    Raises:
        FileNotFoundError: there is no such commit record.
        InputError: it is damaged, or of another record class.
    """
    kind: type[Commit[R]] = Commit[record]  # type: ignore[valid-type]
    return output.read_record(_path(unit, COMMITTED), kind)


def last_attempt(output: Output, unit: UnitId) -> int | None:
    """Return the number of a unit's last attempt record; `None` if it has none."""
    return last_attempts(output.names(folder(unit.stage, unit.shard))).get(unit.name)


def read_attempts(output: Output, unit: UnitId, last: int | None) -> int:
    """Read how many attempts of a unit count.

    Args:
        last: number of its last attempt record; `None` if it has none.

    Raises:
        FileNotFoundError: there is no such record.
        InputError: it is damaged.
    """
    return 0 if last is None else count_attempts(output, _path(unit, ""), last)
