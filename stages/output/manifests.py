"""Manifests: Parquet tables of records, one file per shard; a manifest that exists is complete.

A shard whose stories are tried again gets a new generation of manifests beside the old ones.
Readers take the newest.
"""

import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from storyreel.stages.output.records import check_places, from_row, schema_of, to_row
from storyreel.stages.output.storage import Output

R = TypeVar("R")

STORIES = "stories"
"""The table that a job starts from; it has one generation."""

_NAME = re.compile(r"([0-9]{5,})-of-([0-9]{5,})(?:\.g([0-9]{4,}))?\.parquet")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Shard:
    """A fixed group of stories: number `index` of `count`, tried again `generation` times."""

    index: int
    count: int
    generation: int = 0

    def __str__(self) -> str:
        return f"{self.index:05d}-of-{self.count:05d}"

    @classmethod
    def of_manifest(cls, name: str) -> Self | None:
        """The shard, with its generation, that the name of a manifest says."""
        if (found := _NAME.fullmatch(name)) is None:
            return None
        index, count, generation = (int(number or 0) for number in found.groups())
        return cls(index=index, count=count, generation=generation)


def manifest_path(table: str, shard: Shard) -> str:
    """Where a shard's manifest of `table` (stories, panels, shots, keyframes, ...) stands."""
    again = f".g{shard.generation:04d}" if shard.generation and table != STORIES else ""
    return f"manifests/{table}/{shard}{again}.parquet"


def write_manifest(output: Output, path: str, record: type, records: Iterable[Any]) -> None:
    """Publish records of one class, in the order given, as one Parquet file."""
    table = pa.Table.from_pylist([to_row(r) for r in records], schema=schema_of(record))
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    output.publish(path, buffer.getvalue())


def read_manifest(output: Output, path: str, record: type[R]) -> list[R]:
    """The records of a manifest.

    Raises:
        FileNotFoundError: there is no such manifest.
        ValueError: it is not a manifest of this record, or names places outside the output.
    """
    content = output.read(path)
    with _readable(path):
        records = [from_row(record, row) for row in _parse(content).to_pylist()]
        for read in records:
            check_places(read)
    return records


def read_table(output: Output, path: str) -> pa.Table:
    """The columns of a manifest as they are, without a check of the values.

    Raises:
        FileNotFoundError: there is no such manifest.
        ValueError: it is not a Parquet file.
    """
    content = output.read(path)
    with _readable(path):
        return _parse(content)


def _parse(content: bytes) -> pa.Table:
    # In this thread alone: manifests are small, each of Arrow's threads would keep memory for
    # itself, and one that still holds `content` when the interpreter ends aborts the process.
    # `pq.read_table` would go through Arrow's datasets, and they through its threads.
    with pq.ParquetFile(pa.BufferReader(content), pre_buffer=False) as file:
        return file.read(use_threads=False)


@contextmanager
def _readable(path: str) -> Iterator[None]:
    """Name the manifest in errors; Arrow has many for damaged bytes, some of them not its own."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path}: not a readable manifest: {error}") from error


def newest_manifests(output: Output, table: str) -> list[str]:
    """The paths of a table's manifests in the order of the shards, of each shard the newest.

    Manifests that are not of shards, such as that of the refused input rows, come last.
    """
    newest: dict[tuple[int, int], Shard] = {}
    others: list[str] = []
    for name in output.names(f"manifests/{table}"):
        if (shard := Shard.of_manifest(name)) is None:
            others.append(f"manifests/{table}/{name}")
            continue
        key = (shard.count, shard.index)
        newest[key] = max(shard, newest.get(key, shard))
    return [manifest_path(table, newest[key]) for key in sorted(newest)] + others


def read_manifests(output: Output, table: str, record: type[R]) -> Iterator[R]:
    """The records of all the shards' manifests of one table, shard after shard."""
    for path in newest_manifests(output, table):
        yield from read_manifest(output, path, record)
