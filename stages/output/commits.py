"""Commit records: small files that say that a unit is done or has failed, and after which attempt.

The commit record of a unit is published after the unit's files, and alone says that the unit is
done. Attempts are recorded before a unit is sent to a worker, so that a unit that kills the whole
flow is not tried for ever.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from storyreel.stages.errors import InputError
from storyreel.stages.output.attempts import (
    UNIT_NAME,
    Begun,
    begin,
    count_attempts,
    excuse,
    last_attempts,
    settle,
)
from storyreel.stages.output.copies import earlier_copies
from storyreel.stages.output.manifests import Shard, check_fingerprint
from storyreel.stages.output.records import Failure, files_of, to_json
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
    """

    records: tuple[R, ...]
    attempts: int
    worker: str
    seconds: float
    hardware: str
    fingerprint: str = ""


def folder(stage: str, shard: Shard) -> str:
    """Return the folder of the records of a stage's units in a shard."""
    return f"units/{stage}/{shard}"


def _path(unit: UnitId, suffix: str) -> str:
    return f"{folder(unit.stage, unit.shard)}/{unit.name}{suffix}"


def commit(output: Output, unit: UnitId, made: Commit[Any], record: type[R]) -> Commit[R]:
    """Record that a unit is done; its files must be published before.

    Of several attempts the first one to commit counts; the files of the others are removed, by the
    one that counts and by those that come later.

    Returns:
        The commit that counts.
    """
    paths = _paths(made)
    if output.publish_new(_path(unit, COMMITTED), to_json(made)):
        for earlier in (earlier for path in paths for earlier in earlier_copies(path)):
            output.remove(earlier)
        return made
    kept = read_commit(output, unit, record)
    for path in paths - _paths(kept):
        output.remove(path)
    return kept


def _paths(made: Commit[Any]) -> set[str]:
    return {file.path for record in made.records for file in files_of(record)}


def commit_failure(output: Output, unit: UnitId, failure: Failure) -> None:
    """Record that a unit has failed for good; none of its attempts counts any more."""
    output.publish(_path(unit, FAILED), to_json(failure))
    if (last := last_attempt(output, unit)) is not None:
        settle(output, _path(unit, ""), last)


def begin_attempt(output: Output, unit: UnitId, attempts: int) -> Begun:
    """Record, before its stage is called, that a unit is tried for the `attempts`-th time."""
    return begin(output, _path(unit, ""), attempts)


def excuse_attempt(output: Output, unit: UnitId, attempts: int) -> None:
    """Let only `attempts` attempts of a unit count; the last one was ended by its pool."""
    if (last := last_attempt(output, unit)) is not None:
        excuse(output, _path(unit, ""), last, attempts)


def is_committed(output: Output, unit: UnitId) -> bool:
    """Return True if a unit is done."""
    return output.exists(_path(unit, COMMITTED))


def read_commit(
    output: Output, unit: UnitId, record: type[R], *, fingerprint: str | None = None
) -> Commit[R]:
    """Read the commit record of a finished unit, which made records of class `record`.

    Args:
        fingerprint: refuse a commit record that was written for another job than this one.

    Raises:
        FileNotFoundError: there is no such commit record.
        InputError: it is damaged, or of another record class or job.
    """
    kind: type[Commit[R]] = Commit[record]  # type: ignore[valid-type]
    made = output.read_record(path := _path(unit, COMMITTED), kind)
    if fingerprint is not None:
        try:
            check_fingerprint(made.fingerprint, fingerprint)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
    return made


def read_failure(output: Output, stage: str, shard: Shard, name: str) -> Failure:
    """Read why the unit of that name has failed.

    Raises:
        FileNotFoundError: there is no such record.
        InputError: it is damaged.
    """
    return output.read_record(f"{folder(stage, shard)}/{name}{FAILED}", Failure)


def last_attempt(output: Output, unit: UnitId) -> int | None:
    """Return the number of a unit's last attempt record; `None` if it has none."""
    return last_attempts(output.names(folder(unit.stage, unit.shard))).get(unit.name)


def read_attempts(output: Output, unit: UnitId, last: int | None) -> int:
    """Read how many attempts of a unit count.

    Args:
        last: number of its last attempt record (`Progress.attempted`); `None` if it has none.

    Raises:
        FileNotFoundError: there is no such record.
        InputError: it is damaged.
    """
    return 0 if last is None else count_attempts(output, _path(unit, ""), last)


def forgive(output: Output, stage: str, shard: Shard, name: str) -> None:
    """Remove the record that a unit is done or failed, so that it is tried again."""
    for suffix in (FAILED, COMMITTED):
        output.remove(f"{folder(stage, shard)}/{name}{suffix}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Names of the units of a stage in a shard that are done, failed, or tried and neither.

    `attempted` has for each unit the number of its last attempt record.
    """

    done: frozenset[str]
    failed: frozenset[str]
    attempted: Mapping[str, int]

    @property
    def ended(self) -> frozenset[str]:
        """Names of the units that are done or failed."""
        return self.done | self.failed


def read_progress(output: Output, stage: str, shard: Shard) -> Progress:
    """List the records of a stage in a shard, in one request.

    A unit may have several records, if a writer was killed between two of them or came late. Then
    done counts before failed, and failed before tried.
    """
    names = output.names(folder(stage, shard))
    done = _with_suffix(names, COMMITTED)
    failed = _with_suffix(names, FAILED) - done
    ended = done | failed
    attempted = {name: n for name, n in last_attempts(names).items() if name not in ended}
    return Progress(done=done, failed=failed, attempted=attempted)


def _with_suffix(names: Sequence[str], suffix: str) -> frozenset[str]:
    units = (name.removesuffix(suffix) for name in names if name.endswith(suffix))
    return frozenset(unit for unit in units if UNIT_NAME.fullmatch(unit))
