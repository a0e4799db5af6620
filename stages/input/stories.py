"""Reads stories from JSONL, CSV, Parquet, YAML and plain text, row after row, from any fsspec URL.

A row that cannot become a story is a `Rejection`; the other rows are read.
"""

import codecs
import csv
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

import fsspec
import pyarrow.parquet as pq
import yaml

from storyreel.stages.errors import InputError
from storyreel.stages.input.story_rows import to_story, valid_id
from storyreel.stages.output.patience import is_passing
from storyreel.stages.output.records import Story
from storyreel.stages.output.urls import without_credentials
from storyreel.stages.validation import shorten

PARQUET_ROWS = 64
MAX_ROW_BYTES = 16 << 20
"""Of a line of JSONL, and of a file that is read as a whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """An input row (a whole file: row 0) that never became a story, and why.

    Rows count from 1: lines of JSONL, data rows of CSV and Parquet, stories of YAML.
    """

    source_file: str
    source_row: int
    story_id: str
    message: str


Row = tuple[int, Mapping[str, Any] | Exception]
"""A row's number, and its fields or what was wrong with it."""


def read_stories(url: str) -> Iterator[Story | Rejection]:
    """Stream the stories of a file, a folder (its own files of known kinds) or a glob, sorted.

    Raises:
        ValueError: nothing is there, or the only file is damaged; while streaming, storage does not
            serve: what comes after that is not known.
    """
    filesystem, paths = _find(url)
    stories = _read_files(filesystem, paths)
    first = next(stories, None)
    if first is None:
        raise InputError(f"input {without_credentials(url)}: holds no stories")
    if isinstance(first, Rejection) and first.source_row == 0 and len(paths) == 1:
        raise InputError(first.message)
    return itertools.chain([first], stories)


def _find(url: str) -> tuple[Any, list[str]]:
    place = f"input {without_credentials(url)}"
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
        paths = _paths(filesystem, path)
    except Exception as error:  # every file system has its own exceptions; all mean the same here
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
    return sorted(p for p in found if _suffix(p) in SUFFIXES)


def _suffix(path: str) -> str:
    return PurePosixPath(path).suffix.lower()


def _read_files(filesystem: Any, paths: Iterable[str]) -> Iterator[Story | Rejection]:
    seen: set[str] = set()
    for path in paths:
        name = without_credentials(path)
        for number, row in _rows(filesystem, path):
            story = _story_or_rejection(name, number, row)
            # File systems may fold case, and a story's files carry its id.
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
            if _suffix(path) == ".txt":
                yield 1, {"story_id": PurePosixPath(path).stem, "text": _decoded(file)}
            else:
                yield from _PARSERS[_suffix(path)](file)
    except Exception as error:  # a broken file must not take the other files with it
        if _is_of_storage(error):
            name = without_credentials(path)
            raise InputError(f"input {name}: cannot be read: {_reason(error)}") from error
        yield 0, error


def _is_of_storage(error: Exception) -> bool:
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
    # Lone surrogates are legal in JSON and in no file.
    message = f"{place}: {text}".encode("utf-8", "backslashreplace").decode()
    return Rejection(source_file=name, source_row=number, story_id=story_id, message=message)


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 text (byte {error.object[error.start]:#04x})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return without_credentials(f"{error}" or type(error).__name__)


# One parser for each kind of file.


def _read_jsonl(file: IO[bytes]) -> Iterator[Row]:
    for number, line in enumerate(_lines(file), start=1):
        if number == 1 and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise InputError("is UTF-16 text; must be UTF-8")
        if line.strip():
            yield number, _json_object(line.removeprefix(codecs.BOM_UTF8))


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """The lines, each up to a byte more than it may have."""
    # Remote files have no limit of their own on the length of a line.
    with io.BufferedReader(file) as buffered:  # type: ignore[type-var]
        while line := buffered.readline(MAX_ROW_BYTES + 1):
            yield line
            while len(line) > MAX_ROW_BYTES and not line.endswith(b"\n"):
                line = buffered.readline(MAX_ROW_BYTES + 1)


def _json_object(line: bytes) -> Mapping[str, Any] | Exception:
    if len(line) > MAX_ROW_BYTES:
        return ValueError(f"is too long: a line may have {MAX_ROW_BYTES} bytes")
    try:
        value = json.loads(line.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        return error
    except (ValueError, RecursionError) as error:
        return ValueError(f"not a JSON object: {error}")
    return _mapping(value)


def _refuse_constant(name: str) -> None:
    raise InputError(f"{name} is no JSON number")


def _mapping(value: Any) -> Mapping[str, Any] | Exception:
    if not isinstance(value, Mapping):
        return ValueError(f"{shorten(value)} is not a story: must be a mapping of fields")
    if not all(isinstance(key, str) for key in value):
        return ValueError(f"the keys {shorten(list(value))} must be texts")
    return value


def _read_csv(file: IO[bytes]) -> Iterator[Row]:
    # A byte that is no UTF-8 is carried along, so that it spoils only its own row.
    with io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="") as text:
        yield from _csv_rows(text)


def _csv_rows(text: IO[str]) -> Iterator[Row]:
    reader = csv.DictReader(text, strict=True)
    _check_utf8(reader.fieldnames or ())
    for number in itertools.count(1):
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, ValueError(f"not a CSV row: {error}")
            continue
        yield number, _csv_row(cells)


def _csv_row(cells: dict[Any, Any]) -> Mapping[str, Any] | Exception:
    if None in cells:
        return ValueError(f"has {len(cells[None])} more cells than the header")
    row = {key: value for key, value in cells.items() if value}
    try:
        _check_utf8(row.values())
    except UnicodeDecodeError as error:
        return error
    for key in row.keys() & {"panels", "characters"}:
        # Anything else is the released code's form, a line for each.
        if row[key].lstrip().startswith(('["', "[{", "[]")):
            try:
                row[key] = json.loads(row[key])
            except (ValueError, RecursionError) as error:
                return ValueError(f"{key}: {shorten(row[key])}: not a JSON list: {error}")
    return row


def _check_utf8(cells: Iterable[str]) -> None:
    for cell in cells:
        cell.encode("utf-8", "surrogateescape").decode()


def _read_parquet(file: IO[bytes]) -> Iterator[Row]:
    number = itertools.count(1)
    for batch in pq.ParquetFile(file).iter_batches(batch_size=PARQUET_ROWS):
        for row in batch.to_pylist():
            yield next(number), row


def _read_yaml(file: IO[bytes]) -> Iterator[Row]:
    number = itertools.count(1)
    for document in yaml.safe_load_all(_decoded(file)):
        if document is None:
            continue
        for item in document if isinstance(document, list) else [document]:
            yield next(number), _mapping(item)


def _decoded(file: IO[bytes]) -> str:
    content = file.read(MAX_ROW_BYTES)
    if len(content) == MAX_ROW_BYTES:
        raise InputError(f"is larger than {MAX_ROW_BYTES} bytes; use JSONL, CSV or Parquet")
    return content.decode("utf-8-sig")


_PARSERS: Mapping[str, Callable[[IO[bytes]], Iterator[Row]]] = {
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
}
SUFFIXES = (*_PARSERS, ".txt")
"""What the names of files with stories end in."""
