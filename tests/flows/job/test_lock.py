"""Two runs on one output: one works, the other says who does; a dead holder is followed."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import simulated
from storyreel.flows.audit.verify import verify
from storyreel.flows.job import lock
from storyreel.flows.job.lock import held, holder_of, read_lock
from storyreel.stages.errors import LockedError
from storyreel.stages.output.commits import Commit, UnitId, commit
from storyreel.stages.output.manifests import Shard
from storyreel.stages.output.processes import ProcessId
from storyreel.stages.output.records import File
from storyreel.stages.output.serialization import to_json
from storyreel.stages.output.storage import Output
from tests.flows.conftest import ROOT, Command, kill, wait_until
from tests.flows.test_steering import Simulation

UNIT = UnitId(stage="films", shard=Shard(index=0, count=1), story_id="fox")
MADE: Commit[File] = Commit(records=(), attempts=1, worker="slow", seconds=1.0, hardware="cpu")

HOLD = """
import sys, time
from storyreel.flows.job.lock import held
from storyreel.stages.output.storage import Output

with held(Output(sys.argv[1]), "flow run night"):
    print("held", flush=True)
    time.sleep(600)
"""


@contextmanager
def other_process(output: Output) -> Iterator[subprocess.Popen[str]]:
    """A real process that holds the output."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, output.url], cwd=ROOT, text=True, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(str(tmp_path / "job"))


def lock_records(output: Output) -> list[str]:
    return output.names(lock.LOCK)


def move_far_away(output: Output, name: str) -> None:
    """Make a lock record look like one of a machine whose processes cannot be seen from here."""
    record = json.loads(output.read(f"lock/{name}"))
    record["process"] |= {"machine": "elsewhere", "host": "node-7"}
    output.publish(f"lock/{name}", json.dumps(record).encode())


def test_the_second_of_two_processes_is_told_who_holds_the_output(output: Output) -> None:
    with other_process(output) as other, pytest.raises(LockedError) as caught, held(output, "me"):
        pass
    message = str(caught.value)
    assert "is held by flow run night (host " in message
    assert f"process {other.pid}, since 20" in message


def test_a_killed_holder_is_followed_at_once(output: Output) -> None:
    with other_process(output) as other:
        kill(other.pid)
        other.wait()
        with held(output, "me"):
            assert lock_records(output)[-1] == "00000002.json"
            assert str(holder_of(output)).startswith("me (")
    assert holder_of(output) is None


def test_a_process_that_got_the_number_of_the_dead_holder_is_not_taken_for_it(
    output: Output,
) -> None:
    with held(output, "first"):
        mine = read_lock(output, 1)
        reused = replace(mine, process=replace(mine.process, started=1))
        output.publish("lock/00000001.json", to_json(reused))
        with held(output, "second"):
            pass


def test_runs_one_after_the_other_hold_it_in_turn(output: Output) -> None:
    for _ in range(3):
        with held(output, "me"):
            pass
    assert lock_records(output)[-1] == "00000003.json"
    assert len(lock_records(output)) <= 2


def test_a_far_holder_that_shows_no_sign_of_life_is_followed(
    output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "STALE_S", 0.5)
    with other_process(output) as other:
        kill(other.pid)
    move_far_away(output, "00000001.json")
    with held(output, "me"):
        assert lock_records(output)[-1] == "00000002.json"


def test_a_far_holder_that_renews_its_lock_keeps_the_output(
    output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "STALE_S", 30.0)
    monkeypatch.setattr(lock, "BEAT_S", 0.2)
    far = replace(ProcessId.current(), machine="elsewhere", host="node-7")
    monkeypatch.setattr(ProcessId, "current", classmethod(lambda cls: far))
    with held(output, "far"):
        monkeypatch.undo()
        with pytest.raises(LockedError, match=r"held by far \(host node-7"), held(output, "me"):
            pass


def test_a_holder_that_was_followed_publishes_nothing_any_more(
    output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "CHECK_S", 0.01)
    with held(output, "slow") as mine:
        mine.publish("manifests/films/before", b"")
        # It stood still for too long: another one has taken over.
        time.sleep(0.02)
        later = replace(lock.LockRecord.by("other"), beat=1)
        assert output.publish_new("lock/00000002.json", to_json(later))
        with pytest.raises(LockedError, match="was taken over by other"):
            mine.publish("manifests/films/after", b"")
    assert not output.exists("manifests/films/after")
    assert not read_lock(output, 2).released


def test_a_holder_that_was_followed_commits_nothing_however_short_ago_it_looked(
    output: Output,
) -> None:
    with held(output, "slow") as mine:
        mine.publish("films/fox.mp4", b"")
        later = replace(lock.LockRecord.by("other"), beat=1)
        assert output.publish_new("lock/00000002.json", to_json(later))
        with pytest.raises(LockedError, match="was taken over by other"):
            commit(mine, UNIT, MADE, File)
    assert not output.exists("units")


def test_of_many_that_start_together_exactly_one_gets_the_output(output: Output) -> None:
    start, stop = threading.Barrier(8), threading.Event()
    got: list[str] = []
    refused: list[str] = []

    def contend(name: str) -> None:
        start.wait()
        try:
            with held(output, name):
                got.append(name)
                stop.wait(60)
        except LockedError:
            refused.append(name)
            if len(refused) == 7:
                stop.set()

    threads = [threading.Thread(target=contend, args=(f"{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 7)


def test_unfinished_files_of_dead_writers_are_removed_and_those_of_living_ones_stay(
    output: Output, tmp_path: Path
) -> None:
    with other_process(output) as other:
        dead = replace(ProcessId.current(), pid=other.pid)
    living = ProcessId.current()
    folder = tmp_path / "job" / ".tmp"
    for writer in (dead, living):
        (folder / f"{writer.machine}-{writer.pid}-{writer.started}-0a").write_bytes(b"half")
    far_and_old, far = folder / "elsewhere-7-7-0a", folder / "elsewhere-7-8-0a"
    far_and_old.write_bytes(b"half")
    far.write_bytes(b"half")
    os.utime(far_and_old, (0, 0))
    with held(output, "me"):
        left = {path.name.rsplit("-", 1)[0] for path in folder.iterdir()}
    assert left == {f"{living.machine}-{living.pid}-{living.started}", "elsewhere-7-8"}


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_two_commands_on_one_job_and_kill_of_the_one_that_works(
    tmp_path: Path, prefect_url: str
) -> None:
    """Both would render everything, or the second would wait for a dead one for ever."""
    simulation = Simulation(folder=tmp_path, prefect_url=prefect_url)
    config, stories = tmp_path / "config.toml", tmp_path / "stories.jsonl"
    config.write_text(simulated.CONFIG)
    stories.write_text("\n".join(simulated.make_rows(4)))
    first = simulation.start("--speed", "0.2")
    wait_until(lambda: sorted(simulation.output.glob("lock/*.json")), first)
    command = Command(config=config, prefect_home=tmp_path / "other-prefect")
    second = command.run(*command.render(stories, simulation.output))
    assert second.returncode == 2, second.stderr
    assert f"process {first.pid}" in second.stderr
    assert "is held by flow run" in second.stderr
    kill(first.pid)
    first.communicate()
    before = simulation.commits()
    third = simulation.start("--speed", "20")
    stdout, errors = third.communicate(timeout=400)
    assert "COMPLETED" in stdout, errors
    assert before.items() <= simulation.commits().items()
    audit = verify(Output(str(simulation.output)))
    assert audit.problems == []
    assert audit.num_films == 4
