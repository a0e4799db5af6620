"""A pool on a real local Ray: what it does with units that work, fail, hang and kill."""

import errno
import itertools
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from storyreel.cluster import crew, scheduler
from storyreel.cluster.config import PoolConfig
from storyreel.cluster.errors import MAX_MESSAGE, PoolEndedError
from storyreel.cluster.places import Places
from storyreel.cluster.pool import Pool
from storyreel.cluster.work import Work
from storyreel.stages.output.commits import (
    Commit,
    UnitId,
    commit_failure,
    last_attempt,
    read_attempts,
    read_commit,
)
from storyreel.stages.output.manifests import Shard
from storyreel.stages.output.records import Failure, File
from storyreel.stages.output.storage import Output
from storyreel.stages.output.unit_records import UnitRecords
from tests.cluster.processes import is_alive
from tests.cluster.toys import (
    CopyStage,
    EnvironmentStage,
    FlakyLoadStage,
    HangingByTurnsStage,
    InstalledOnce,
    LoadedOnceStage,
    Order,
    UnloadableStage,
)

pytestmark = pytest.mark.usefixtures("local_ray")

SHARD = Shard(index=0, count=1)


def records(folder: Path) -> UnitRecords:
    """The records of the units of these tests."""
    return UnitRecords.find(Output(str(folder)), "copies", SHARD)


LONG_S = 120.0
"""Time in which all must happen that a test waits for, on the busiest machine."""


def unit(name: str) -> UnitId:
    return UnitId(stage="copies", shard=SHARD, story_id=name)


def open_pool(output: Path, **changes: Any) -> Pool:
    name = changes.pop("name", "toys")
    stage = changes.pop("stage", partial(CopyStage, output_url=str(output)))
    watchers = {name: changes.pop(name, None) for name in ("admit", "joined", "measured", "places")}
    settings = {"num_actors": 2, "num_cpus": 1.0} | changes
    return Pool(
        name=name,
        stages={"copies": stage},
        output=Output(str(output)),
        config=PoolConfig(**settings),
        num_threads=3,
        **watchers,
    )


def send(pool: Pool, name: str, trouble: str = "", priority: int = 0, attempts: int = 0) -> Any:
    work = Work(
        unit=unit(name),
        argument=Order(text=name, trouble=trouble),
        attempts=attempts,
        source_file="stories.jsonl",
        source_row=7,
    )
    return pool.submit(work, priority=(priority,))


def send_all(pool: Pool, names: list[str]) -> list[Future[Any]]:
    return [send(pool, name) for name in names]


def calls(output: Path, name: str) -> list[Path]:
    return sorted((output / "calls").glob(f"{name}.*"))


def recorded_attempts(output: Path, name: str) -> int | None:
    store = Output(str(output))
    last = last_attempt(store, unit(name))
    return None if last is None else read_attempts(store, unit(name), last)


def wait_for(condition: Callable[[], Any], *, seconds: float = LONG_S) -> Any:
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.02)
    return value


def test_every_unit_is_done_once_and_its_commit_says_what_its_future_says(tmp_path: Path) -> None:
    names = [f"story-{i}" for i in range(20)]
    with open_pool(tmp_path) as pool:
        results = [future.result(LONG_S) for future in send_all(pool, names)]
    output = Output(str(tmp_path))
    for name, made in zip(names, results, strict=True):
        assert read_commit(output, unit(name), File) == made
        assert output.read_checked(made.records[0]) == name.encode()
        assert len(calls(tmp_path, name)) == 1


def test_the_commit_is_on_disk_before_the_future_resolves(tmp_path: Path) -> None:
    with open_pool(tmp_path) as pool:
        future = send(pool, "story")
        there: list[frozenset[str]] = []
        future.add_done_callback(lambda _: there.append(records(tmp_path).done))
        future.result(LONG_S)
    assert there == [{"story"}]


def test_the_oldest_shard_goes_first_and_within_it_the_first_come(tmp_path: Path) -> None:
    with open_pool(tmp_path, num_actors=1) as pool:
        send(pool, "running", "slower")
        wait_for(lambda: calls(tmp_path, "running"))
        for name, priority in (("c", 2), ("a", 1), ("d", 2), ("b", 1)):
            send(pool, name, priority=priority)
    started = sorted((tmp_path / "calls").iterdir(), key=lambda call: call.name.split(".")[1])
    assert [call.name[0] for call in started[1:]] == ["a", "b", "c", "d"]


def test_killing_a_worker_repeats_its_unit_elsewhere_and_no_other(tmp_path: Path) -> None:
    with open_pool(tmp_path) as pool:
        futures = [send(pool, "victim", "slower"), *send_all(pool, list("abcdef"))]
        (call,) = wait_for(lambda: [c for c in calls(tmp_path, "victim") if c.read_text()])
        os.kill(int(call.read_text()), signal.SIGKILL)
        results = [future.result(LONG_S) for future in futures]
    assert not any(isinstance(result, Failure) for result in results)
    first, second = calls(tmp_path, "victim")
    assert first.read_text() != second.read_text()
    assert all(len(calls(tmp_path, name)) == 1 for name in "abcdef")
    assert read_commit(Output(str(tmp_path)), unit("victim"), File).attempts == 2


def test_a_unit_that_kills_every_worker_is_given_up_and_harms_no_neighbour(tmp_path: Path) -> None:
    with open_pool(tmp_path) as pool:
        before, poison, after = send_all(pool, ["a", "b"]), send(pool, "p", "exit"), send(pool, "c")
        failure = poison.result(LONG_S)
        results = [future.result(LONG_S) for future in (*before, after)]
    assert isinstance(failure, Failure)
    assert (failure.error_class, failure.attempts) == ("worker_died", 3)
    assert (failure.source_file, failure.source_row) == ("stories.jsonl", 7)
    assert failure.worker.startswith("toys-")
    assert len({call.read_text() for call in calls(tmp_path, "p")}) == 3
    assert not any(isinstance(result, Failure) for result in results)
    assert records(tmp_path).failure("p") == failure
    assert records(tmp_path).failed == {"p"}


def test_bad_input_is_not_tried_again(tmp_path: Path) -> None:
    with open_pool(tmp_path) as pool:
        failure = send(pool, "story", "bad").result(LONG_S)
    assert (failure.error_class, failure.attempts) == ("bad_input", 1)
    assert failure.message == "ValueError: panel 3: the character [Bob] is not known"


def test_an_exception_is_tried_on_another_worker_and_its_message_bounded(tmp_path: Path) -> None:
    with open_pool(tmp_path, num_actors=1, max_attempts=2) as pool:
        failure = send(pool, "story", "error").result(LONG_S)
    assert (failure.error_class, failure.attempts) == ("exception", 2)
    assert failure.message.startswith("RuntimeError: xxx")
    assert len(failure.message) == MAX_MESSAGE
    assert len({call.read_text() for call in calls(tmp_path, "story")}) == 2


def test_a_broken_gpu_context_costs_the_worker_and_not_the_unit(tmp_path: Path) -> None:
    with open_pool(tmp_path, num_actors=1) as pool:
        assert isinstance(send(pool, "story", "fail once").result(LONG_S), Commit)
        send(pool, "next").result(LONG_S)
    broken, fresh = calls(tmp_path, "story")
    assert calls(tmp_path, "next")[0].read_text() == fresh.read_text() != broken.read_text()


def test_a_hanging_unit_is_ended_and_the_others_go_on(tmp_path: Path) -> None:
    with open_pool(tmp_path, unit_timeout_s=5, max_attempts=1) as pool:
        hanging, others = send(pool, "h", "hang"), send_all(pool, list("abc"))
        assert all(isinstance(future.result(LONG_S), Commit) for future in others)
        failure = hanging.result(LONG_S)
    assert (failure.error_class, failure.message) == ("timeout", "no end after 5 s")


@pytest.mark.parametrize(
    "trouble", ["hang in C", *(pytest.param(t, marks=pytest.mark.slow) for t in ("hang", "stop"))]
)
def test_a_unit_that_does_no_step_is_ended_and_its_process_with_it(
    tmp_path: Path, trouble: str
) -> None:
    with open_pool(tmp_path, num_actors=1, step_timeout_s=4, max_attempts=1) as pool:
        failure = send(pool, "h", trouble).result(LONG_S)
        (call,) = calls(tmp_path, "h")
        wait_for(lambda: not is_alive(int(call.read_text())))
        assert isinstance(send(pool, "next").result(LONG_S), Commit)
    assert (failure.error_class, failure.message) == ("timeout", "no step for 4 s")


def test_a_unit_that_is_slow_but_does_its_steps_is_left_alone(tmp_path: Path) -> None:
    with open_pool(tmp_path, step_timeout_s=8) as pool:
        assert isinstance(send(pool, "slow", "steps").result(LONG_S), Commit)
    assert len(calls(tmp_path, "slow")) == 1


@pytest.mark.slow
def test_silence_does_not_count_while_the_pool_itself_waits_for_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def commit_late(*failure: Any) -> None:
        time.sleep(9)
        commit_failure(*failure)

    monkeypatch.setattr(scheduler, "commit_failure", commit_late)
    with open_pool(tmp_path, step_timeout_s=8, max_attempts=1) as pool:
        working = send(pool, "working", "steps")
        wait_for(lambda: calls(tmp_path, "working"))
        assert isinstance(send(pool, "given-up", attempts=1).result(LONG_S), Failure)
        assert isinstance(working.result(LONG_S), Commit)


def test_storage_that_was_waited_for_in_vain_is_not_waited_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: set[str] = set()

    def put_on_a_full_disk(_: Output, path: str, _content: bytes) -> None:
        tried.add(path)
        raise OSError(errno.ENOSPC, "No space left on device")

    with open_pool(tmp_path) as pool:
        running = send(pool, "running", "hang")
        wait_for(lambda: calls(tmp_path, "running"))
        monkeypatch.setattr(Output, "_put", put_on_a_full_disk)
        monkeypatch.setattr("storyreel.stages.output.patience._Limit.seconds", 1.0)
        for future in (send(pool, "given-up", attempts=3), running):
            with pytest.raises(PoolEndedError, match=r"cannot go on: .*no space is left"):
                future.result(LONG_S)
    assert {PurePosixPath(path).name for path in tried} == {"given-up.failed.json"}


@pytest.mark.parametrize("wait_s", [0.0, pytest.param(1.0, marks=pytest.mark.slow)])
def test_a_worker_that_dies_idle_costs_no_unit_an_attempt(tmp_path: Path, wait_s: float) -> None:
    with open_pool(tmp_path, num_actors=1, max_attempts=1) as pool:
        send(pool, "before", "die idle").result(LONG_S)
        (call,) = calls(tmp_path, "before")
        wait_for(lambda: not is_alive(int(call.read_text())))
        time.sleep(wait_s)
        assert isinstance(send(pool, "next").result(LONG_S), Commit)
    assert read_commit(Output(str(tmp_path)), unit("next"), File).attempts == 1


@pytest.mark.slow
def test_a_worker_that_stopped_idle_costs_no_unit_an_attempt(tmp_path: Path) -> None:
    with open_pool(tmp_path, num_actors=1, max_attempts=1, step_timeout_s=4) as pool:
        send(pool, "before").result(LONG_S)
        (call,) = calls(tmp_path, "before")
        os.kill(int(call.read_text()), signal.SIGSTOP)
        assert isinstance(send(pool, "next").result(LONG_S), Commit)
    assert read_commit(Output(str(tmp_path)), unit("next"), File).attempts == 1


def test_out_of_memory_is_tried_again_with_less_of_it_on_another_worker(tmp_path: Path) -> None:
    with open_pool(tmp_path) as pool:
        (file,) = send(pool, "big", "memory when large").result(LONG_S).records
    assert file.path == "copies/bigsmaller.txt"
    assert read_commit(Output(str(tmp_path)), unit("big"), File).attempts == 2
    first, second = calls(tmp_path, "big")
    assert first.read_text() != second.read_text()


def test_out_of_memory_with_less_of_it_is_the_end(tmp_path: Path) -> None:
    with open_pool(tmp_path) as pool:
        failure = send(pool, "big", "memory").result(LONG_S)
    assert (failure.error_class, failure.attempts) == ("out_of_memory", 2)


def test_a_stage_that_is_not_admitted_waits_and_starts_no_worker(tmp_path: Path) -> None:
    asked: list[str] = []
    opened: list[bool] = []

    def admit(stage: str) -> bool:
        asked.append(stage)
        return bool(opened)

    with open_pool(tmp_path, admit=admit) as pool:
        future = send(pool, "story")
        wait_for(lambda: len(asked) >= 3)
        assert not (tmp_path / "calls").exists()
        opened.append(True)
        assert isinstance(future.result(LONG_S), Commit)
    assert set(asked) == {"copies"}


def test_actors_that_must_not_work_end_the_pool_with_the_reason(tmp_path: Path) -> None:
    told: list[str] = []

    def joined(environment: str) -> str:
        told.append(environment)
        return "runs on other hardware"

    with (
        open_pool(tmp_path, joined=joined) as pool,
        pytest.raises(PoolEndedError, match="runs on other hardware"),
    ):
        send(pool, "story").result(LONG_S)
    assert all("torch" in environment for environment in told)
    assert not calls(tmp_path, "story")


def test_the_time_of_each_unit_that_is_committed_is_told(tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []
    with open_pool(tmp_path, measured=lambda *measure: told.append(measure)) as pool:
        send(pool, "slow", "slow").result(LONG_S)
        send(pool, "bad", "bad").result(LONG_S)
    made = read_commit(Output(str(tmp_path)), unit("slow"), File)
    assert told == [("copies", made.seconds)]
    assert made.seconds >= 0.5


def test_a_pool_grows_and_shrinks_and_what_is_in_flight_goes_on(tmp_path: Path) -> None:
    def workers(prefix: str) -> set[str]:
        return {call.read_text() for call in (tmp_path / "calls").glob(f"{prefix}-*")}

    def two_at_work() -> bool:
        for future in [send(pool, f"two-{next(number)}", "slow") for _ in range(2)]:
            future.result(LONG_S)
        return len(workers("two")) == 2

    number = itertools.count()
    with open_pool(tmp_path, num_actors=1) as pool:
        for future in [send(pool, f"one-{i}", "slow") for i in range(2)]:
            future.result(LONG_S)
        pool.resize(2)
        wait_for(two_at_work)
        running = send(pool, "run-0", "slower")
        wait_for(lambda: calls(tmp_path, "run-0"))
        pool.resize(0)
        assert isinstance(running.result(LONG_S), Commit)
        wait_for(lambda: not any(is_alive(int(pid)) for pid in workers("two") | workers("run")))
        held = send(pool, "late-0")
        time.sleep(1)
        assert not held.done()
        pool.resize(1)
        assert isinstance(held.result(LONG_S), Commit)
    assert len(workers("one")) == len(workers("late")) == 1


def test_actors_that_find_no_place_wait_for_it_and_the_others_work(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open_pool(tmp_path, num_actors=6, num_cpus=2.0, load_timeout_s=4) as pool:
        futures = [send(pool, f"story-{i}", "slower") for i in range(6)]
        assert all(isinstance(future.result(LONG_S), Commit) for future in futures)
    assert "cannot load" not in caplog.text


def test_a_pool_for_whose_actors_there_is_never_a_place_ends(tmp_path: Path) -> None:
    with (
        open_pool(tmp_path, num_actors=1, num_cpus=4.0) as first,
        open_pool(tmp_path, num_actors=1, placement_timeout_s=2) as second,
    ):
        holder = send(first, "holder", "slower")
        wait_for(lambda: calls(tmp_path, "holder"))
        with pytest.raises(PoolEndedError, match=r"no actor found a place in 2 s: .*'CPU': 1"):
            send(second, "waiting").result(LONG_S)
        assert isinstance(holder.result(LONG_S), Commit)


@pytest.mark.parametrize("trouble", ["", pytest.param("slower", marks=pytest.mark.slow)])
def test_a_pool_whose_only_actor_dies_gets_a_place_again_on_a_full_machine(
    tmp_path: Path, trouble: str
) -> None:
    places = Places()
    with (
        open_pool(tmp_path, num_actors=1, places=places, placement_timeout_s=30) as small,
        open_pool(tmp_path, num_actors=8, name="large", places=places) as large,
    ):
        send(small, "first").result(LONG_S)
        crowd = [send(large, f"crowd-{i}", "slow") for i in range(12)]
        for future in crowd:
            future.result(LONG_S)
        busy = [send(large, f"busy-{i}", trouble) for i in range(16 if trouble else 0)]
        (call,) = calls(tmp_path, "first")
        os.kill(int(call.read_text()), signal.SIGKILL)
        wait_for(lambda: not is_alive(int(call.read_text())))
        time.sleep(1)  # one of the large pool's waiting actors gets the place
        assert isinstance(send(small, "second").result(LONG_S), Commit)
        assert all(isinstance(future.result(LONG_S), Commit) for future in busy)


def test_a_worker_that_fails_different_units_is_replaced(tmp_path: Path) -> None:
    with open_pool(tmp_path, num_actors=1, max_attempts=1) as pool:
        for name in "abcd":
            send(pool, name, "memory").result(LONG_S)
    workers = [calls(tmp_path, name)[0].read_text() for name in "abcd"]
    assert workers[0] == workers[1] == workers[2] != workers[3]
    assert records(tmp_path).failure("a").error_class == "out_of_memory"


def test_stages_that_cannot_be_loaded_end_the_pool_with_the_reason(tmp_path: Path) -> None:
    with open_pool(tmp_path, stage=UnloadableStage) as pool:
        futures = send_all(pool, list("abc"))
        for future in futures:
            with pytest.raises(PoolEndedError, match=r"no file named model\.safetensors"):
                future.result(LONG_S)
        with pytest.raises(PoolEndedError, match=r"no file named model\.safetensors"):
            send(pool, "late").result(1)
    assert not records(tmp_path).failed


@pytest.mark.slow
def test_failures_to_load_do_not_end_a_pool_while_another_actor_loads(tmp_path: Path) -> None:
    stage = partial(LoadedOnceStage, output_url=str(tmp_path))
    with open_pool(tmp_path, num_actors=4, stage=stage) as pool:
        futures = send_all(pool, list("abcd"))
        assert all(isinstance(future.result(LONG_S), Commit) for future in futures)


@pytest.mark.slow
def test_actors_that_hang_while_others_fail_to_load_keep_no_pool_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "MAX_BACKOFF_S", 0.0)  # as if loading took longer than it
    stage = partial(HangingByTurnsStage, output_url=str(tmp_path))
    with (
        open_pool(tmp_path, num_actors=4, stage=stage, load_timeout_s=10) as pool,
        pytest.raises(PoolEndedError, match="could not load their stages"),
    ):
        send_all(pool, list("abcd"))[0].result(LONG_S)


@pytest.mark.slow
def test_actors_that_die_before_they_have_a_place_leave_the_others_at_work(tmp_path: Path) -> None:
    with open_pool(tmp_path, stage=InstalledOnce(output_url=str(tmp_path))) as pool:
        futures = [send(pool, "first", "failures"), *send_all(pool, list("ab"))]
        assert all(isinstance(future.result(LONG_S), Commit) for future in futures)


def test_a_worker_that_cannot_load_once_is_started_again(tmp_path: Path) -> None:
    stage = partial(FlakyLoadStage, output_url=str(tmp_path))
    with open_pool(tmp_path, num_actors=1, stage=stage) as pool:
        assert isinstance(send(pool, "story").result(LONG_S), Commit)


@pytest.mark.parametrize("num_cpus", [0.5, 2.0])
def test_the_number_of_threads_does_not_follow_the_cpus(tmp_path: Path, num_cpus: float) -> None:
    stage = partial(EnvironmentStage, output_url=str(tmp_path))
    with open_pool(tmp_path, num_cpus=num_cpus, num_actors=1, stage=stage) as pool:
        send(pool, "threads").result(LONG_S)
    assert (tmp_path / "threads.txt").read_text() == "3 3"


def test_the_number_of_actors_changes_no_record(tmp_path: Path) -> None:
    made = []
    for num_actors in (1, 2):
        (output := tmp_path / str(num_actors)).mkdir()
        with open_pool(output, num_actors=num_actors, num_cpus=0.5) as pool:
            made.append([f.result(LONG_S).records for f in send_all(pool, list("abcdef"))])
    assert made[0] == made[1]


def test_an_attempt_is_on_disk_while_its_unit_runs(tmp_path: Path) -> None:
    with open_pool(tmp_path) as pool:
        future = send(pool, "story", "slow", attempts=1)
        wait_for(lambda: calls(tmp_path, "story"))
        assert wait_for(lambda: recorded_attempts(tmp_path, "story")) == 2
        future.result(LONG_S)
    assert not records(tmp_path).attempted


def test_a_unit_that_took_three_runs_down_is_given_up_untried(tmp_path: Path) -> None:
    with open_pool(tmp_path) as pool:
        failure = send(pool, "story", attempts=3).result(LONG_S)
    assert (failure.error_class, failure.attempts) == ("worker_died", 3)
    assert not (tmp_path / "calls").exists()


def test_closing_in_a_hurry_cancels_and_blames_no_unit(tmp_path: Path) -> None:
    pool = open_pool(tmp_path, num_actors=1)
    running, waiting = send(pool, "running", "hang"), send(pool, "waiting")
    wait_for(lambda: calls(tmp_path, "running"))
    pool.close(cancel=True)
    for future in (running, waiting, send(pool, "late")):
        with pytest.raises(CancelledError):
            future.result(1)
    assert recorded_attempts(tmp_path, "running") == 0


def test_too_many_failures_end_the_pool(tmp_path: Path) -> None:
    with open_pool(tmp_path, max_failed_share=0.1) as pool:
        futures = [send(pool, f"story-{i}", "bad") for i in range(10)]
        with pytest.raises(PoolEndedError, match="more than the allowed 10%"):
            futures[-1].result(LONG_S)
    assert sum(isinstance(f.result(), Failure) for f in futures if not f.exception()) >= 3


@pytest.mark.parametrize(
    ("needs", "named"),
    [
        ({"num_gpus": 8}, r"'GPU': 8\.0"),
        ({"memory_mb": 10**9}, "'memory': 1048576000000000"),
        ({"resources": {"big_disk": 1}}, r"'big_disk': 1\.0"),
    ],
)
def test_a_pool_that_no_node_can_hold_is_refused(
    tmp_path: Path, needs: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=f"pool toys: an actor needs .*{named}"):
        open_pool(tmp_path, **needs)


def test_units_that_earlier_runs_ended_with_go_one_at_a_time(tmp_path: Path) -> None:
    """Else the one that ends every run would take those along that are always beside it."""
    with open_pool(tmp_path) as pool:
        suspects = [send(pool, f"suspect-{n}", "slow", attempts=2) for n in range(2)]
        assert all(isinstance(future.result(LONG_S), Commit) for future in suspects)
    (first,), (second,) = (calls(tmp_path, f"suspect-{n}") for n in range(2))
    first_done = (tmp_path / "copies" / "suspect-0.txt").stat().st_mtime_ns
    assert second.stat().st_mtime_ns >= first_done, first
