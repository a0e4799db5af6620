"""A run whose lock was taken over publishes nothing that counts, from whatever process."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from storyreel.cluster.config import PoolConfig
from storyreel.cluster.errors import PoolEndedError
from storyreel.cluster.pool import Pool
from storyreel.cluster.work import Work
from storyreel.flows.job.lock import LockRecord, held
from storyreel.stages.output.commits import UnitId, read_attempts
from storyreel.stages.output.manifests import Shard
from storyreel.stages.output.records import File
from storyreel.stages.output.serialization import to_json
from storyreel.stages.output.storage import Output
from storyreel.stages.output.unit_records import UnitRecords

SHARD = Shard(index=0, count=1)


pytestmark = pytest.mark.usefixtures("local_ray")


class RobbedStage:
    """Another run takes the lock over while this stage is at work."""

    def __init__(self, *, output_url: str, fails: bool) -> None:
        self._output = Output(output_url)
        self._fails = fails

    def __call__(self, argument: Any) -> tuple[File, ...]:
        later = replace(LockRecord.by("the other run"), beat=1)
        assert self._output.publish_new("lock/00000002.json", to_json(later))
        if self._fails:
            raise ValueError("and this unit is to be given up")
        return (self._output.publish("files/late", b"late"),)


@pytest.mark.parametrize("fails", [False, True], ids=["worker", "scheduler"])
def test_a_run_that_lost_its_lock_commits_nothing(fails: bool, tmp_path: Path) -> None:
    """Neither the worker, which says that a unit is done, nor the pool, which gives one up."""
    output = Output(str(tmp_path / "job"))
    stage = partial(RobbedStage, output_url=output.url, fails=fails)
    unit = UnitId(stage="films", shard=SHARD, story_id="fox")
    with held(output, "slow run") as mine:
        pool = Pool(
            name="toys",
            stages={"films": stage},
            output=mine,
            config=PoolConfig(num_cpus=0.1),
            num_threads=1,
        )
        future = pool.submit(Work(unit=unit, argument=None), priority=())
        with pytest.raises(PoolEndedError, match="was taken over by the other run"):
            future.result(120)
        pool.close()
    found = UnitRecords.find(output, "films", SHARD)
    assert (found.done, found.failed, found.attempted) == (set(), set(), {"fox": 1})
    assert read_attempts(output, unit, 1) == 1
