"""Stories in tables: CSV and its kin as spreadsheets write them, and Parquet."""

import csv
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, Self

import pyarrow.parquet as pq

from storyreel.stages.errors import InputError
from storyreel.stages.input.readers.encodings import check_utf8, open_text
from storyreel.stages.input.readers.rows import MAX_ROW_BYTES, Row, column_name, too_long
from storyreel.stages.validation import shorten

PARQUET_ROWS = 64
"""Rows of Parquet in memory at a time."""
_DELIMITERS = ",;\t|"


def read_csv(file: IO[bytes]) -> Iterator[Row]:
    """Yield the rows of a table of text; a comma, semicolon, tab or bar divides its cells.

    Raises:
        InputError: a quote is open to the end.
    """
    with open_text(file) as text:
        yield from _csv_rows(text)


def read_parquet(file: IO[bytes]) -> Iterator[Row]:
    """Yield the rows of a Parquet file."""
    number = itertools.count(1)
    with pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False) as parquet:
        for batch in parquet.iter_batches(batch_size=PARQUET_ROWS, use_threads=False):
            for place in range(batch.num_rows):
                # Values are plain only one row at a time: a batch may have the same one in each.
                row = batch.slice(place, 1)
                is_long = row.nbytes > MAX_ROW_BYTES
                fields = too_long() if is_long else _parquet_fields(row.to_pylist()[0])
                if fields:
                    yield next(number), fields
                else:
                    next(number)


def _parquet_fields(cells: Mapping[str, Any]) -> dict[str, Any]:
    named = {column_name(name): value for name, value in cells.items()}
    # pandas writes a missing number as NaN.
    return {
        name: value
        for name, value in named.items()
        if name and value is not None and not (isinstance(value, float) and math.isnan(value))
    }


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
            raise too_long()
        if self.num_read > MAX_ROW_BYTES:
            # Each of the lines behind would be a row of its own, and wrong.
            raise InputError(f"a record does not end within {MAX_ROW_BYTES} bytes: a quote is open")
        if not line:
            raise StopIteration
        return line


def _csv_rows(text: IO[str]) -> Iterator[Row]:
    lines = _CsvLines(text)
    first = next(lines, "")
    if first.lower().startswith("sep="):  # a spreadsheet names its delimiter so
        first = next(lines, "")
    delimiter = max(_DELIMITERS, key=lambda sign: len(next(csv.reader([first], delimiter=sign))))
    reader = csv.reader(itertools.chain([first], lines), delimiter=delimiter, strict=True)
    header = [column_name(name) for name in next(reader, [])]
    _check_cells(header)
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
        if any(cell.strip() for cell in cells):
            yield number, _csv_fields(header, cells)


def _csv_fields(header: list[str], cells: list[str]) -> Mapping[str, Any] | Exception:
    if any(cell.strip() for cell in cells[len(header) :]):
        return ValueError(f"has {len(cells) - len(header)} more cells than the header")
    if (unnamed := _unnamed(header, cells)) is not None:
        return ValueError(f"{shorten(unnamed)}: its column has no name in the header")
    row: dict[str, Any] = {
        name: cell for name, cell in zip(header, cells, strict=False) if name and cell.strip()
    }
    try:
        _check_cells(row.values())
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


def _unnamed(header: list[str], cells: list[str]) -> str | None:
    """A cell in a column without a name; the first column may number the rows, as pandas does."""
    unnamed = [
        (place, cell)
        for place, (name, cell) in enumerate(zip(header, cells, strict=False))
        if not name and cell.strip()
    ]
    return next((cell for place, cell in unnamed if place or not cell.isdecimal()), None)


def _check_cells(cells: Iterable[str]) -> None:
    for cell in cells:
        check_utf8(cell)
