import json
from dataclasses import replace
from pathlib import Path

import pytest

from storyreel.stages.errors import InputError
from storyreel.stages.output.attempts import AttemptRecord
from storyreel.stages.output.commits import (
    Commit,
    UnitId,
    begin_attempt,
    commit,
    commit_failure,
    read_commit,
)
from storyreel.stages.output.manifests import Shard
from storyreel.stages.output.processes import ProcessId
from storyreel.stages.output.records import Failure, Shot, ShotKind
from storyreel.stages.output.serialization import to_json
from storyreel.stages.output.storage import Output
from storyreel.stages.output.unit_records import PACK, UnitRecords, forgive, is_record

SHARD = Shard(index=3, count=64)
FOLDER = f"units/motion/{SHARD}"
SHOT = Shot(
    story_id="fox",
    shot_index=1,
    kind=ShotKind.HOLD,
    text="Zoë",
    negative_prompt="",
    seed=2**63 - 1,
    num_frames=16,
)
MADE = Commit(records=(SHOT,), attempts=2, worker="render-0", seconds=1.5, hardware="cpu")
FAILURE = Failure(
    story_id="fox",
    stage="motion",
    unit_id="fox.0001",
    error_class="timeout",
    message="no answer",
    attempts=3,
    worker="render-1",
    source_file="",
    source_row=0,
)


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(str(tmp_path))


def unit(shot_index: int) -> UnitId:
    return UnitId(stage="motion", shard=SHARD, story_id="fox", shot_index=shot_index)


def find(output: Output) -> UnitRecords:
    return UnitRecords.find(output, "motion", SHARD)


@pytest.fixture
def ended(output: Output) -> Output:
    """Two units are done and one has failed, all without packed records."""
    commit(output, unit(0), MADE, Shot)
    commit_failure(output, unit(1), FAILURE)
    commit(output, unit(2), MADE, Shot)
    return output


def test_done_given_up_and_tried_units_are_told_apart(output: Output) -> None:
    for index in range(4):
        begin_attempt(output, unit(index), 1)
    commit(output, unit(0), MADE, Shot)
    commit_failure(output, unit(1), FAILURE)
    found = find(output)
    assert found.done == {"fox.0000"}
    assert found.failed == {"fox.0001"}
    assert found.attempted == {"fox.0002": 1, "fox.0003": 1}
    assert found.failure("fox.0001") == FAILURE


def test_packed_records_say_what_their_files_said_and_are_one_file(ended: Output) -> None:
    find(ended).pack({})
    assert ended.names(FOLDER) == [PACK]
    found = find(ended)
    assert (found.done, found.failed) == ({"fox.0000", "fox.0002"}, {"fox.0001"})
    assert found.commit("fox.0002", Shot) == MADE
    assert found.failure("fox.0001") == FAILURE


def test_packing_goes_on_where_it_was_killed(
    ended: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(Output, "remove_all", die)
        with pytest.raises(KeyboardInterrupt):
            find(ended).pack({})
    assert len(ended.names(FOLDER)) == 4
    assert find(ended).done == {"fox.0000", "fox.0002"}
    find(ended).pack({})
    assert ended.names(FOLDER) == [PACK]


def test_what_is_tried_again_is_forgotten_and_the_rest_is_kept(ended: Output) -> None:
    find(ended).pack({})
    commit(ended, unit(3), MADE, Shot)
    forgive(ended, "motion", SHARD, ["fox.0001", "fox.0003"])
    found = find(ended)
    assert found.ended == {"fox.0000", "fox.0002"}

    other = replace(MADE, worker="render-9")
    assert commit(ended, unit(1), other, Shot) == other
    find(ended).pack({})
    assert find(ended).commit("fox.0001", Shot) == other
    assert find(ended).commit("fox.0000", Shot) == MADE


def test_a_worker_that_comes_back_after_the_seal_is_told_that_it_is_late(output: Output) -> None:
    """Its attempt may be alive, so that the record of who was faster keeps its file."""
    begun = begin_attempt(output, unit(0), 1)
    elsewhere = ProcessId(host="other", machine="other", pid=1, started=1)
    alive = AttemptRecord(attempts=1, copy=1, writer=elsewhere)
    output.publish(f"{FOLDER}/fox.0000.attempt-{begun.number:04d}.json", to_json(alive))
    begin_attempt(output, unit(0), 2)
    commit(output, unit(0), MADE, Shot)
    find(output).pack({})
    assert read_commit(output, unit(0), Shot) == MADE
    late = replace(MADE, worker="late")
    assert commit(output, unit(0), late, Shot) == MADE
    assert find(output).commit("fox.0000", Shot) == MADE


def test_the_first_attempt_of_a_unit_that_succeeded_is_removed_with_the_seal(
    output: Output,
) -> None:
    """Its process lives, but it has committed, so that it writes nothing more."""
    begin_attempt(output, unit(0), 1)
    commit(output, unit(0), MADE, Shot)
    find(output).pack({"fox.0000": MADE})
    assert output.names(FOLDER) == [PACK]
    assert find(output).commit("fox.0000", Shot) == MADE


def test_a_unit_that_was_done_although_it_was_given_up_counts_as_done(output: Output) -> None:
    """The pool gave it up; its worker, which had only been silent, committed it later."""
    commit(output, unit(0), MADE, Shot)
    find(output).pack({"fox.0000": FAILURE})
    assert find(output).commit("fox.0000", Shot) == MADE


def test_a_unit_that_is_forgiven_is_tried_as_if_for_the_first_time(output: Output) -> None:
    begin_attempt(output, unit(0), 1)
    commit(output, unit(0), MADE, Shot)
    forgive(output, "motion", SHARD, ["fox.0000"])
    assert output.names(FOLDER) == []


def test_the_attempt_of_a_dead_process_is_removed_with_the_seal(output: Output) -> None:
    begun = begin_attempt(output, unit(0), 1)
    dead = replace(begun.record, writer=replace(begun.record.writer, pid=2**22 + 1))
    output.publish(f"{FOLDER}/fox.0000.attempt-{begun.number:04d}.json", to_json(dead))
    commit(output, unit(0), MADE, Shot)
    find(output).pack({})
    assert output.names(FOLDER) == [PACK]


def test_a_damaged_record_is_named_and_harms_no_other(ended: Output) -> None:
    ended.publish(f"{FOLDER}/fox.0002.done.json", b"\xff{")
    find(ended).pack({})
    with pytest.raises(InputError, match=rf"^{FOLDER}/{PACK}: fox.0002.done.json: not readable"):
        find(ended).commit("fox.0002", Shot)
    assert find(ended).commit("fox.0000", Shot) == MADE


def test_units_whose_packed_records_are_damaged_are_made_again(ended: Output) -> None:
    find(ended).pack({})
    ended.publish(f"{FOLDER}/{PACK}", b"PAR1")
    with pytest.raises(InputError, match=f"{FOLDER}/{PACK}: not a readable manifest"):
        find(ended)
    forgive(ended, "motion", SHARD, [PACK])
    assert not find(ended).ended


def test_the_record_of_another_job_is_refused(output: Output) -> None:
    commit(output, unit(0), replace(MADE, fingerprint="a" * 64), Shot)
    for _ in range(2):
        with pytest.raises(InputError, match="was made for another job"):
            find(output).commit("fox.0000", Shot, fingerprint="b" * 64)
        find(output).pack({})


def test_records_of_version_0_1_are_packed_too(output: Output) -> None:
    old = json.loads(to_json(MADE))
    del old["fingerprint"], old["ended_at"]
    output.publish(f"{FOLDER}/fox.0000.done.json", json.dumps(old).encode())
    find(output).pack({})
    assert find(output).commit("fox.0000", Shot, fingerprint="b" * 64) == MADE


def test_a_story_whose_name_ends_like_a_shot_is_not_taken_for_one(output: Output) -> None:
    story = UnitId(stage="keyframes", shard=SHARD, story_id="fox.0001")
    begin_attempt(output, story, 1)
    assert not find(output).attempted


def test_records_of_strangers_are_known_by_their_names() -> None:
    ours = ("fox.done.json", "fox.failed.json", "fox.attempt-0001.json", "fox.attempts.json", PACK)
    assert all(is_record({"fox"}, name) for name in ours)
    others = ("cat.done.json", "fox.done (1).json", "fox.json", "packed (1).parquet")
    assert not any(is_record({"fox"}, name) for name in others)
