"""Reads the stories of a file, a folder or a glob at any fsspec URL, one row after the other.

A row that is not a valid story becomes a `Rejection`, and reading continues with the next row.
Storage that fails ends the reading instead: the rows behind the failure are unknown, and a job
laid out without them would be a different job.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import fsspec

from storyreel.stages.errors import InputError
from storyreel.stages.input.formats import SUFFIXES, Row, parse_file, suffix
from storyreel.stages.input.story_rows import to_story, valid_id
from storyreel.stages.output.patience import is_passing
from storyreel.stages.output.records import Story
from storyreel.stages.output.urls import without_credentials


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """An input row, or a whole file, that is not a valid story.

    Attributes:
        source_file: the file, without credentials.
        source_row: counted from 1: lines of JSONL, data rows of CSV and Parquet, stories of YAML;
            0 stands for the whole file.
        story_id: as the row states it; empty if it states no valid one.
        message: file, row, field and value, and what is allowed.
    """

    source_file: str
    source_row: int
    story_id: str
    message: str


def read_stories(url: str) -> Iterator[Story | Rejection]:
    """Yield the stories of a file, of a folder's files, or of a glob, in the order of the paths.

    Files of a folder with other suffixes than `SUFFIXES`, and its subfolders, are ignored.

    Raises:
        InputError: there is no story, or the only file is damaged; while the stories are read,
            storage fails.
    """
    filesystem, paths = _find(url)
    stories = _read_files(filesystem, paths)
    first = next(stories, None)
    if first is None:
        raise InputError(f"input {without_credentials(url)}: contains no stories")
    if isinstance(first, Rejection) and first.source_row == 0 and len(paths) == 1:
        raise InputError(first.message)
    return itertools.chain([first], stories)


def _find(url: str) -> tuple[Any, list[str]]:
    place = f"input {without_credentials(url)}"
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
        paths = _paths(filesystem, path)
    except Exception as error:  # each file system of fsspec has exceptions of its own
        raise InputError(f"{place}: cannot be read: {_reason(error)}") from None
    if not paths:
        raise InputError(f"{place}: no file ends in {', '.join(SUFFIXES)}")
    return filesystem, paths


def _paths(filesystem: Any, path: str) -> list[str]:
    if any(sign in path for sign in "*?[") and not filesystem.exists(path):
        found = filesystem.glob(path)
    elif filesystem.isdir(path):
        entries = filesystem.ls(path, detail=True)
        found = [entry["name"] for entry in entries if entry["type"] == "file"]
    elif filesystem.exists(path):
        found = [path]
    else:
        raise FileNotFoundError("no such file or folder")
    return sorted(p for p in found if suffix(p) in SUFFIXES)


def _read_files(filesystem: Any, paths: Iterable[str]) -> Iterator[Story | Rejection]:
    seen: set[str] = set()
    for path in paths:
        name = without_credentials(path)
        for number, row in _rows(filesystem, path):
            story = _story_or_rejection(name, number, row)
            # Story ids become file names, and some file systems ignore case.
            folded = story.story_id.casefold()
            if isinstance(story, Story) and folded in seen:
                text = f"story_id: {story.story_id!r}: an earlier row has this id (case is ignored)"
                yield _rejection(name, number, story.story_id, text)
                continue
            if isinstance(story, Story):
                seen.add(folded)
            yield story


def _rows(filesystem: Any, path: str) -> Iterator[Row]:
    try:
        with filesystem.open(path, "rb") as file:
            yield from parse_file(file, path)
    except Exception as error:  # a damaged file must not keep the others from being read
        if _is_storage_failure(error):
            name = without_credentials(path)
            raise InputError(f"input {name}: cannot be read: {_reason(error)}") from error
        yield 0, error


def _is_storage_failure(error: Exception) -> bool:
    """True if reading failed for a reason other than the file's content."""
    # Arrow reports a damaged file as a plain OSError, without an errno.
    damaged = type(error) is OSError and error.errno is None
    return is_passing(error) or (isinstance(error, OSError) and not damaged)


def _story_or_rejection(
    name: str, number: int, row: Mapping[str, Any] | Exception
) -> Story | Rejection:
    if isinstance(row, Exception):
        return _rejection(name, number, "", _reason(row))
    try:
        return to_story(row, name, number)
    except ValueError as error:
        return _rejection(name, number, valid_id(row.get("story_id")), str(error))


def _rejection(name: str, number: int, story_id: str, text: str) -> Rejection:
    place = f"{name} row {number}" if number else name
    # JSON may escape lone surrogates, but they cannot be encoded as UTF-8 and so not be stored.
    message = f"{place}: {text}".encode("utf-8", "backslashreplace").decode()
    return Rejection(source_file=name, source_row=number, story_id=story_id, message=message)


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 text (byte {error.object[error.start]:#04x})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return without_credentials(f"{error}" or type(error).__name__)
