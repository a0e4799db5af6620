"""The formats of story files: one reader for each, which yields the fields of row after row.

A reader knows no stories: `story_rows` says which fields a row may have. To add a format, write a
reader and name its suffix in `_READERS`.
"""

import codecs
import csv
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import IO, Any, Self

import pyarrow.parquet as pq
import yaml

from storyreel.stages.errors import InputError
from storyreel.stages.validation import shorten

PARQUET_ROWS = 64
"""Rows of Parquet in memory at a time."""
MAX_ROW_BYTES = 4 << 20
"""Limit of a row: a line of JSONL, the lines of a CSV record, the values of a Parquet row."""
MAX_FILE_BYTES = 16 << 20
"""Limit of a YAML or text file, which are read as a whole."""

Row = tuple[int, Mapping[str, Any] | Exception]
"""The number of a row, from 1, and its fields, or the error if it is not valid."""


def parse_file(file: IO[bytes], path: str) -> Iterator[Row]:
    """Yield the rows of an open file; the suffix of its path says which format it has.

    Raises:
        Exception: the file is damaged; each format has its own exceptions.
    """
    if suffix(path) == ".txt":
        yield 1, {"story_id": PurePosixPath(path).stem, "text": _decode_whole(file)}
    else:
        yield from _READERS[suffix(path)](file)


def suffix(path: str) -> str:
    """The suffix of a path in lower case, such as `.jsonl`."""
    return PurePosixPath(path).suffix.lower()


def _read_jsonl(file: IO[bytes]) -> Iterator[Row]:
    for number, line in enumerate(_limited_lines(file), start=1):
        if number == 1 and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            # Otherwise each line would be rejected with a message of its own.
            raise InputError("is UTF-16 text; must be UTF-8")
        if line.strip():
            yield number, _json_object(line.removeprefix(codecs.BOM_UTF8))


def _limited_lines(file: IO[bytes]) -> Iterator[bytes]:
    """The lines; of one that is too long only its beginning, a byte more than is allowed."""
    # `readline` of remote files in fsspec takes no limit.
    with io.BufferedReader(file) as buffered:  # type: ignore[type-var]
        while line := buffered.readline(MAX_ROW_BYTES + 1):
            yield line
            while len(line) > MAX_ROW_BYTES and not line.endswith(b"\n"):
                line = buffered.readline(MAX_ROW_BYTES + 1)


def _json_object(line: bytes) -> Mapping[str, Any] | Exception:
    if len(line) > MAX_ROW_BYTES:
        return _too_long()
    try:
        value = json.loads(line.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        return error
    except (ValueError, RecursionError) as error:
        return ValueError(f"not a JSON object: {error}")
    return _checked_fields(value)


def _too_long() -> ValueError:
    return ValueError(f"is too long: a row may have {MAX_ROW_BYTES} bytes")


def _refuse_constant(name: str) -> None:
    # Python's parser would accept NaN and Infinity, which JSON does not have.
    raise InputError(f"{name} is not a JSON number")


def _checked_fields(value: Any) -> Mapping[str, Any] | Exception:
    if not isinstance(value, Mapping):
        return ValueError(f"{shorten(value)} is not a story: must be a mapping of fields")
    if not all(isinstance(key, str) for key in value):
        return ValueError(f"the keys {shorten(list(value))} must be strings")
    return value


def _read_csv(file: IO[bytes]) -> Iterator[Row]:
    # A byte that is not UTF-8 becomes a surrogate, so that only its own row is rejected.
    with io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="") as text:
        yield from _csv_rows(text)


class _CsvLines:
    """The lines of a CSV file; `num_read` counts the characters of the record's lines."""

    def __init__(self, text: IO[str]) -> None:
        self._text = text
        self.num_read = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = self._text.readline(MAX_ROW_BYTES + 1)
        self.num_read += len(line)
        if len(line) > MAX_ROW_BYTES:
            while line and not line.endswith(("\n", "\r")):
                line = self._text.readline(MAX_ROW_BYTES + 1)
            raise _too_long()
        if self.num_read > MAX_ROW_BYTES:
            # Each of the lines behind would be a row of its own, and wrong.
            raise InputError(f"a record does not end within {MAX_ROW_BYTES} bytes: a quote is open")
        if not line:
            raise StopIteration
        return line


def _csv_rows(text: IO[str]) -> Iterator[Row]:
    lines = _CsvLines(text)
    reader = csv.DictReader(lines, strict=True)
    _check_utf8(reader.fieldnames or ())
    for number in itertools.count(1):
        lines.num_read = 0
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, ValueError(f"not a CSV row: {error}")
            continue
        except InputError:
            raise
        except ValueError as error:  # a line
            yield number, error
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
        # Any other cell has the form of the released StoryDiffusion code: one item per line.
        if row[key].lstrip().startswith(('["', "[{", "[]")):
            try:
                row[key] = json.loads(row[key])
            except (ValueError, RecursionError) as error:
                return ValueError(f"{key}: {shorten(row[key])}: not a JSON list: {error}")
    return row


def _check_utf8(cells: Iterable[str]) -> None:
    """Raise UnicodeDecodeError if a cell contains bytes that are not UTF-8."""
    for cell in cells:
        cell.encode("utf-8", "surrogateescape").decode()


def _read_parquet(file: IO[bytes]) -> Iterator[Row]:
    number = itertools.count(1)
    with pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False) as parquet:
        for batch in parquet.iter_batches(batch_size=PARQUET_ROWS, use_threads=False):
            for place in range(batch.num_rows):
                # Values are plain only one row at a time: a batch may have the same one in each.
                row = batch.slice(place, 1)
                is_long = row.nbytes > MAX_ROW_BYTES
                yield next(number), _too_long() if is_long else row.to_pylist()[0]


def _read_yaml(file: IO[bytes]) -> Iterator[Row]:
    number = itertools.count(1)
    for document in yaml.load_all(_decode_whole(file), Loader=yaml.CSafeLoader):
        if document is None:
            continue
        for item in document if isinstance(document, list) else [document]:
            yield next(number), _checked_fields(item)


def _decode_whole(file: IO[bytes]) -> str:
    content = file.read(MAX_FILE_BYTES)
    if len(content) == MAX_FILE_BYTES:  # there may be more
        raise InputError(f"is larger than {MAX_FILE_BYTES} bytes; use JSONL, CSV or Parquet")
    return content.decode("utf-8-sig")


_READERS: Mapping[str, Callable[[IO[bytes]], Iterator[Row]]] = {
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
}
SUFFIXES = (*_READERS, ".txt")
"""Suffixes of the files that are read from a folder."""
