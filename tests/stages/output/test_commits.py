from pathlib import Path

import pytest

from storyreel.stages.output.commits import (
    Commit,
    UnitId,
    begin_attempt,
    commit,
    last_attempt,
    read_attempts,
    read_commit,
)
from storyreel.stages.output.manifests import Shard
from storyreel.stages.output.records import Shot, ShotKind
from storyreel.stages.output.storage import Output

SHARD = Shard(index=3, count=64)
SHOT = Shot(
    story_id="fox",
    shot_index=1,
    kind=ShotKind.HOLD,
    text="Zoë",
    negative_prompt="",
    seed=2**63 - 1,
    num_frames=16,
)


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(str(tmp_path))


def unit(shot_index: int | None) -> UnitId:
    return UnitId(stage="motion", shard=SHARD, story_id="fox", shot_index=shot_index)


def test_a_commit_holds_what_the_unit_made_and_how_often_it_was_tried(output: Output) -> None:
    made = Commit(records=(SHOT,), attempts=2, worker="render-0", seconds=1.5, hardware="cpu")
    assert commit(output, unit(1), made, Shot) == made
    assert read_commit(output, unit(1), Shot) == made


def test_attempts_are_known_to_a_run_that_comes_after_a_crash(output: Output) -> None:
    begin_attempt(output, unit(2), 1)
    begin_attempt(output, unit(2), 2)
    assert last_attempt(output, unit(2)) == 2
    assert read_attempts(output, unit(2), 2) == 2
