"""The same guarantees on an object store as on a local disk, against a real S3 server."""

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path

import pytest
from werkzeug.wrappers import Request

from benchmarks.object_store import ObjectStore
from storyreel.stages.errors import StorageError
from storyreel.stages.heartbeat import Pulse, followed
from storyreel.stages.output import patience, storage
from storyreel.stages.output.records import File
from storyreel.stages.output.storage import Output


@pytest.fixture
def output(store: ObjectStore) -> Output:
    return Output("s3://films/nights/job")


def test_what_one_process_publishes_another_lists_reads_and_checks(output: Output) -> None:
    other = Output(output.url)
    assert other.names("clips/fox") == []
    assert not other.exists("clips/fox/0000.mkv")
    file = output.publish("clips/fox/0000.mkv", b"whole")
    output.publish("clips/fox/deep/er", b"")
    assert other.names("clips/fox") == ["0000.mkv", "deep"]
    assert other.names("clips") == ["fox"]
    assert other.exists("clips/fox/0000.mkv")
    assert other.exists("clips")
    assert other.read_checked(file) == b"whole"
    other.check(file)


def test_a_large_file_goes_in_parts_and_comes_back_whole(output: Output, tmp_path: Path) -> None:
    local = tmp_path / "film.mp4"
    local.write_bytes(bytes(range(256)) * (110 << 12))
    file = output.publish_file("films/fox.mp4", local)
    assert file.size == 110 << 20
    output.check(file)


def test_a_damaged_and_a_missing_object_are_named(output: Output) -> None:
    file = output.publish("films/fox.mp4", b"whole")
    output.publish("films/fox.mp4", b"other")
    for check in (output.check, output.read_checked):
        with pytest.raises(ValueError, match=r"films/fox.mp4: damaged"):
            check(file)
        with pytest.raises(ValueError, match=r"films/cat.mp4: missing"):
            check(File(path="films/cat.mp4", size=1, sha256="0"))


def test_removing_takes_all_of_a_folder_and_minds_nothing_that_is_not_there(
    output: Output,
) -> None:
    output.publish("keyframes/fox/0000.png", b"")
    output.publish("keyframes/foxes/0000.png", b"")
    output.remove_folder("keyframes/fox")
    output.remove_folder("keyframes/fox")
    output.remove("keyframes/fox/0000.png")
    assert output.names("keyframes") == ["foxes"]


def contend(url: str, writers: int) -> list[int]:
    """Which of many writers that start together got a name."""
    start = threading.Barrier(writers)
    won: list[int] = []

    def write(number: int) -> None:
        mine = Output(url)
        start.wait()
        if mine.publish_new("lock/1", f"{number}".encode()):
            won.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won


def test_of_several_that_create_one_name_exactly_one_succeeds(output: Output) -> None:
    (winner,) = contend(output.url, 8)
    assert output.read("lock/1") == f"{winner}".encode()


def test_a_store_without_conditional_writes_still_has_one_winner(
    store: ObjectStore, output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "SETTLE_S", 2.0)
    store.refuse = lambda request: 501 if "If-None-Match" in request.headers else None
    (winner,) = contend(output.url, 4)
    assert output.read("lock/1") == f"{winner}".encode()


def test_a_creation_whose_answer_got_lost_is_known_as_ones_own(output: Output) -> None:
    assert output.publish_new("lock/1", b"mine")
    assert output.publish_new("lock/1", b"mine")
    assert not output.publish_new("lock/1", b"theirs")


@pytest.mark.parametrize("status", [500, 503])
def test_a_store_that_throttles_is_waited_for(
    status: int,
    store: ObjectStore,
    output: Output,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.01)
    left = [8]  # more than s3fs itself puts up with

    def refuse(request: Request) -> int | None:
        left[0] -= 1
        return status if left[0] >= 0 else None

    store.refuse = refuse
    with caplog.at_level(logging.WARNING):
        output.publish("films/fox.mp4", b"whole")
    assert output.read("films/fox.mp4") == b"whole"
    assert "does not respond" in caplog.text


def test_a_store_that_is_gone_for_too_long_ends_it_with_a_name(
    store: ObjectStore, output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience._Limit, "seconds", 0.5)
    store.refuse = lambda request: 503
    with pytest.raises(StorageError, match=r"output s3://films/nights/job: does not respond"):
        output.publish("films/fox.mp4", b"whole")


@pytest.mark.parametrize("status", [400, 403])
def test_a_command_at_a_terminal_says_at_once_that_it_is_refused(
    status: int, store: ObjectStore, output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience._Limit, "refused_s", 0.0)  # other tests may have set it
    store.refuse = lambda request: status
    before = store.seen.total()
    with pytest.raises(StorageError, match=r"output s3://films/nights/job: refuses access"):
        output.publish("films/fox.mp4", b"whole")
    assert store.seen.total() - before < 5


@pytest.mark.parametrize("status", [400, 403])
def test_credentials_that_expire_at_night_are_waited_for_until_they_are_renewed(
    status: int, store: ObjectStore, output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience._Limit, "refused_s", 60.0)
    renewed = threading.Event()
    store.refuse = lambda request: None if renewed.is_set() else status
    with followed(pulse := Pulse()), ThreadPoolExecutor() as executor:
        context = copy_context()
        publishing = executor.submit(context.run, output.publish, "films/fox.mp4", b"whole")
        while "refuses access" not in pulse.waits_for:
            time.sleep(0.05)
        assert not publishing.done()
        renewed.set()
        publishing.result(60)
    assert output.read("films/fox.mp4") == b"whole"


def test_no_secret_is_in_a_message_or_a_log(
    store: ObjectStore,
    output: Output,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(patience._Limit, "seconds", 1.0)
    store.refuse = lambda request: 503
    with caplog.at_level(logging.DEBUG, "stages"), pytest.raises(StorageError) as caught:
        output.publish("films/fox.mp4", b"whole")
    for secret in ("AKIAPLANTEDKEY", "planted-secret"):
        assert secret not in caplog.text + str(caught.value)


@pytest.mark.parametrize(
    "url", ["s3://key:secret@films/job", "s3://films/job?token=secret", "https://u:secret@h/x"]
)
def test_a_url_with_a_secret_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match="must not contain a user, password or query") as caught:
        Output(url)
    assert "secret@" not in str(caught.value)
    assert "token" not in str(caught.value)


def test_a_bucket_that_is_not_there_is_named_at_the_door(store: ObjectStore) -> None:
    with pytest.raises(ValueError, match="output s3://nowhere/job: cannot be written"):
        Output("s3://nowhere/job").check_writable()
