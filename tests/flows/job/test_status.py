"""Counts, rates and times left: what people plan their night by."""

import time
from dataclasses import replace

import pytest

from storyreel.flows.job.config import load_config
from storyreel.flows.job.stage_table import ShardContext
from storyreel.flows.job.stages import STAGES
from storyreel.flows.job.status import MAX_FAILURES, Census
from storyreel.flows.plans.rates import Meters
from storyreel.flows.run.shards import StageOfShard
from storyreel.flows.run.tally import Tally
from storyreel.stages.output.commits import Commit
from storyreel.stages.output.manifests import Shard
from storyreel.stages.output.records import Clip, Failure, ShotKind
from storyreel.stages.output.storage import Output

CLIP = Clip(
    story_id="fox",
    shot_index=0,
    kind=ShotKind.MOTION,
    path="",
    size=10,
    sha256="",
    num_frames=16,
    width=8,
    height=8,
    seed=0,
    endpoint_closeness=1.0,
    endpoint_jump=1.0,
)
MADE = Commit(records=(CLIP,), attempts=1, worker="", seconds=1.0, hardware="cpu")
FAILURE = Failure(
    story_id="fox",
    stage="motion",
    unit_id="fox.0000",
    error_class="exception",
    message="",
    attempts=3,
    worker="",
    source_file="",
    source_row=1,
)


def tally(num_stories: int = 10) -> Tally:
    return Tally(Census(num_stories=num_stories), Meters({}))


def open_motion(counted: Tally, index: int, num_shots: int, num_stories: int) -> None:
    context = ShardContext(
        output=Output("/"),
        shard=Shard(index=index, count=5),
        fingerprint="",
        config=load_config("pocket"),
        stages=STAGES,
    )
    motion = StageOfShard(spec=STAGES["motion"], context=context, is_last=False)
    counted.opened(motion, num_shots, num_stories)


def test_shots_are_estimated_until_every_shard_is_known() -> None:
    counted = tally()
    open_motion(counted, 0, num_shots=14, num_stories=2)
    motion = counted.stages()[2]
    assert (motion.total, motion.estimated) == (70, True)
    for index in range(1, 5):
        open_motion(counted, index, num_shots=10, num_stories=2)
    open_motion(counted, 4, num_shots=10, num_stories=2)  # opened again after a restart
    motion = counted.stages()[2]
    assert (motion.total, motion.estimated) == (54, False)


def test_a_story_that_failed_twice_lacks_one_film() -> None:
    counted = tally()
    counted.ended("motion", FAILURE)
    counted.ended("motion", replace(FAILURE, unit_id="fox.0001"))
    assert counted.stages()[2].failed == 2
    assert counted.stages()[3].total == 9
    assert counted.num_failed_stories() == 1


def test_a_film_that_failed_is_one_of_those_to_make() -> None:
    """Else more films would be over than there are."""
    counted = tally()
    counted.ended("motion", FAILURE)
    counted.ended("films", replace(FAILURE, story_id="hare", stage="films", unit_id="hare"))
    films = counted.stages()[3]
    assert (films.total, films.failed, films.remaining) == (9, 1, 8)


def test_only_the_newest_failures_are_kept_however_many_there_are() -> None:
    counted = tally()
    for number in range(3 * MAX_FAILURES):
        counted.ended("motion", replace(FAILURE, unit_id=f"fox.{number:04d}"))
    assert [f.unit_id for f in counted.failures()][-1] == f"fox.{3 * MAX_FAILURES - 1:04d}"
    assert len(counted.failures()) == MAX_FAILURES


def test_time_left_is_the_work_left_of_the_pool_at_its_pace() -> None:
    """The pool takes keyframes and motion in turn: neither stage's rate says when it is over."""
    counted = tally(num_stories=2)
    open_motion(counted, 0, num_shots=10, num_stories=2)
    for _ in range(2):
        counted.ended("keyframes", MADE)
        counted.took("keyframes", 1.0)
    counted.ended("motion", MADE)
    counted.took("motion", 2.0)
    time.sleep(0.5)
    keyframes, motion, films = counted.stages()[1:]
    elapsed = 1 / motion.rate if motion.rate else 0.0
    assert keyframes.eta_s is None or keyframes.eta_s == 0.0
    # Nine shots of two seconds, at the four actor-seconds done in the time so far.
    assert motion.rate == pytest.approx(1 / elapsed)
    assert films.eta_s is None  # no film was measured yet
