"""Manifests: Parquet tables of records, one file per shard; a manifest that exists is complete."""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from stages.records import from_row, schema_of, to_row
from stages.storage import Output

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Shard:
    """A fixed group of stories: number `index` of `count`."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index:05d}-of-{self.count:05d}"


def manifest_path(table: str, shard: Shard) -> str:
    """Where a shard's manifest of `table` (stories, panels, shots, keyframes, ...) stands."""
    return f"manifests/{table}/{shard}.parquet"


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
        ValueError: it is not a manifest of this record.
    """
    try:
        rows = pq.read_table(io.BytesIO(output.read(path))).to_pylist()
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: not a readable manifest: {error}") from error
    return [from_row(record, row) for row in rows]


def read_manifests(output: Output, table: str, record: type[R]) -> Iterator[R]:
    """The records of all the shards' manifests of one table, shard after shard."""
    for name in output.names(f"manifests/{table}"):
        yield from read_manifest(output, f"manifests/{table}/{name}", record)
