from pathlib import Path

import pytest

from stages.records import File
from stages.storage import Output, checksum


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
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mp4", "local"]


def test_a_write_that_breaks_off_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    output.publish("film.mp4", b"whole")
    with pytest.raises(FileNotFoundError):
        output.publish_file("film.mp4", tmp_path / "missing")
    assert output.read("film.mp4") == b"whole"
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


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
