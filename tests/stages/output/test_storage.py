import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from storyreel.stages.output.records import File
from storyreel.stages.output.storage import Output, checksum


def test_what_was_published_is_read_back_with_its_checksum(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    file = output.publish("a/b.txt", b"hello")
    assert output.read_checked(file) == b"hello"
    assert file == File(path="a/b.txt", size=5, sha256=checksum(tmp_path / "a/b.txt"))


def test_publishing_again_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    output.publish("film.mp4", b"first")
    (tmp_path / "local").write_bytes(b"second")
    output.publish_file("film.mp4", tmp_path / "local")
    assert output.read("film.mp4") == b"second"
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")) == [
        ".tmp",
        "film.mp4",
        "local",
    ]


def test_a_write_that_breaks_off_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    output.publish("film.mp4", b"whole")
    with pytest.raises(FileNotFoundError):
        output.publish_file("film.mp4", tmp_path / "missing")
    assert output.read("film.mp4") == b"whole"
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["film.mp4"]


@pytest.mark.parametrize("content", [b"whol", b"wholf", b""])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    output = Output(str(tmp_path))
    file = output.publish("clips/fox/0001.mkv", b"whole")
    (tmp_path / file.path).write_bytes(content)
    with pytest.raises(ValueError, match=r"clips/fox/0001.mkv: damaged"):
        output.read_checked(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"clips/1.mkv: missing"):
        Output(str(tmp_path)).read_checked(File(path="clips/1.mkv", size=1, sha256="0"))


@pytest.mark.parametrize("path", ["../other", "/etc/passwd", "a/../../b"])
def test_no_path_leaves_the_output(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match="leaves the output"):
        Output(str(tmp_path / "output")).publish(path, b"")


def test_memory_is_refused_because_other_processes_would_not_see_it() -> None:
    with pytest.raises(ValueError, match=r"memory://job: must be a local path or one of"):
        Output("memory://job")


def test_an_unknown_kind_of_store_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="output nowhere://x"):
        Output("nowhere://x")


def test_a_place_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match="cannot be written"):
        Output(str(tmp_path / "file" / "output")).check_writable()


def test_unfinished_files_are_not_listed(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    output.publish("units/b", b"")
    output.publish("units/a", b"")
    (tmp_path / "units" / ".0123.tmp").write_bytes(b"half")
    assert output.names("units") == ["a", "b"]
    assert output.names("nothing") == []


def test_a_link_that_leaves_the_output_is_neither_read_nor_written_through(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    output = Output(str(tmp_path / "job"))
    output.publish("films/fox.mp4", b"")
    (tmp_path / "job" / "clips").symlink_to(outside)
    (tmp_path / "job" / "films" / "link").symlink_to(outside / "secret")
    for use in (
        lambda: output.read("clips/secret"),
        lambda: output.read("films/link"),
        lambda: output.publish("clips/new", b""),
        lambda: output.remove_folder("clips"),
        lambda: output.names("clips"),
    ):
        with pytest.raises(ValueError, match="leaves the output"):
            use()
    assert [path.name for path in outside.iterdir()] == ["secret"]


def test_only_one_of_two_creates_a_name(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    assert output.publish_new("lock/1", b"first")
    assert not output.publish_new("lock/1", b"second")
    assert output.read("lock/1") == b"first"


def test_a_full_disk_that_stays_full_ends_it_with_a_name(tmp_path: Path) -> None:
    on_small_disk(tmp_path, 0.5, "StorageError", "no space is left on it, for ")


def test_a_full_disk_is_waited_for_until_there_is_room(tmp_path: Path) -> None:
    on_small_disk(tmp_path, 60, "published", "no space is left on it; waited")


FILL = """
import logging, sys, threading, time
import shlex
import subprocess
import sys
from pathlib import Path
from storyreel.stages.output import patience
from storyreel.stages.output.storage import Output

logging.basicConfig(level=logging.WARNING)
patience.wait_at_most(float(sys.argv[1]))
folder = Path(sys.argv[2])
(folder / "ballast").write_bytes(bytes(900_000))
threading.Timer(3.0, (folder / "ballast").unlink).start()
output = Output(str(folder / "job"))
try:
    output.publish("films/fox.mp4", bytes(500_000))
    assert len(output.read("films/fox.mp4")) == 500_000
    print("published")
except patience.StorageError as error:
    print("StorageError", error)
assert not any(path.is_file() for path in (folder / "job" / ".tmp").iterdir())
"""


def on_small_disk(folder: Path, patience_s: float, *said: str) -> None:
    """Publish to a real file system of 1 MB that is almost full, and gets room after a while."""
    mount = f"mount -t tmpfs -o size=1m tmpfs {shlex.quote(str(folder))}"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], check=False).returncode:
        pytest.skip("this system lets nobody mount a small disk of their own")
    python = shlex.join([sys.executable, "-c", FILL, str(patience_s), str(folder)])
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", f"{mount} && exec {python}"],
        check=False,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    for text in said:
        assert text in done.stdout + done.stderr


@pytest.mark.parametrize("url", ["a::b", "simplecache::s3://bucket/job", "/srv/a::/srv/b"])
def test_an_output_of_several_chained_locations_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must be one location, without '::'"):
        Output(url)
