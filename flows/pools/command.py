"""Runs units on actors for a command, outside of the run of a job: a unit that fails ends it."""

from collections.abc import Mapping
from typing import Any

from storyreel.cluster.errors import ErrorClass, PoolEndedError
from storyreel.cluster.pool import Pool
from storyreel.cluster.work import Work
from storyreel.stages.errors import InputError
from storyreel.stages.output.commits import Commit, UnitId
from storyreel.stages.output.manifests import Shard
from storyreel.stages.output.records import Failure


def run_units(pool: Pool, stage: str, shard: Shard, arguments: Mapping[str, Any]) -> list[Any]:
    """Run a unit for each story id; returns the only record of each, in the same order.

    Raises:
        ValueError: an argument, or a file that it names, is not valid.
        PoolEndedError: the stage cannot be loaded, or a unit was given up for another reason.
    """
    futures = [
        pool.submit(
            Work(unit=UnitId(stage=stage, shard=shard, story_id=story_id), argument=argument),
            priority=(),
        )
        for story_id, argument in arguments.items()
    ]
    return [_only_record(future.result()) for future in futures]


def _only_record(result: Commit[Any] | Failure) -> Any:
    if isinstance(result, Failure):
        message = f"{result.stage} {result.unit_id}: {result.message}"
        is_bad_input = result.error_class == ErrorClass.BAD_INPUT
        raise InputError(message) if is_bad_input else PoolEndedError(message)
    (record,) = result.records
    return record
