"""Manifests: Parquet tables of records, one file per shard; a manifest that exists is complete.

If stories of a shard are tried again, the shard gets a new generation of manifests beside the old
ones. Readers take the newest generation.
"""

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from storyreel.stages.errors import InputError
from storyreel.stages.output.serialization import from_table, to_table
from storyreel.stages.output.storage import Output

R = TypeVar("R")

STORIES = "stories"
"""The table of the accepted stories; it has a generation for each edit of them."""

FINGERPRINT = b"storyreel.fingerprint"
"""Key of the job's fingerprint in the metadata of a manifest."""

READERS = 16
"""Files that are read at a time: an object store takes tens of milliseconds for each."""

_OF_JOB = re.compile(r"[a-z]+\.parquet")
"""Name of a manifest that does not belong to a shard."""

_NAME = re.compile(r"([0-9]{5,})-of-([0-9]{5,})(?:\.g([0-9]{4,}))?\.parquet")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Shard:
    """A fixed group of stories: number `index` of `count`.

    Attributes:
        generation: how often it was opened again, to try stories again or because they were edited.
        edition: the generation for which its stories or the settings were edited last.
    """

    index: int
    count: int
    generation: int = 0
    edition: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"{self.index:05d}-of-{self.count:05d}"

    @classmethod
    def of_manifest(cls, name: str) -> Self | None:
        """Parse a manifest's file name; `None` if it is not the name of a shard's manifest."""
        if (found := _NAME.fullmatch(name)) is None:
            return None
        index, count, generation = (int(number or 0) for number in found.groups())
        return cls(index=index, count=count, generation=generation)


def manifest_path(table: str, shard: Shard) -> str:
    """Return the path of a shard's manifest of `table` (stories, panels, shots, ...)."""
    generation = shard.edition if table == STORIES else shard.generation
    again = f".g{generation:04d}" if generation else ""
    return f"manifests/{table}/{shard}{again}.parquet"


def write_manifest(
    output: Output, path: str, record: type, records: Iterable[Any], *, fingerprint: str
) -> None:
    """Publish records of class `record`, in the order given, as one Parquet file.

    The fingerprint of the job stands in the file's metadata.
    """
    table = to_table(record, records)
    metadata = {**(table.schema.metadata or {}), FINGERPRINT: fingerprint.encode()}
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), buffer)
    output.publish(path, buffer.getvalue())


def read_manifest(
    output: Output, path: str, record: type[R], *, fingerprint: str | None = None
) -> list[R]:
    """Read a manifest, also one that another version of the program wrote (see `records`).

    Args:
        fingerprint: refuse a manifest that was written for another job than this one.

    Raises:
        FileNotFoundError: there is no such manifest.
        InputError: it is damaged, is of another record or job, or names paths outside the output.
    """
    content = output.read(path)
    with _readable(path):
        table = _parse(content)
        if fingerprint is not None:
            check_fingerprint(_fingerprint_of(table), fingerprint)
        return from_table(record, table)


def check_fingerprint(found: str, fingerprint: str) -> None:
    """Check that something was made for the job with this fingerprint; "" is of an older version.

    Raises:
        InputError: it was made for another job.
    """
    if found not in ("", fingerprint):
        raise InputError(f"was made for another job, {found[:8]} instead of {fingerprint[:8]}")


def _fingerprint_of(table: pa.Table) -> str:
    return bytes((table.schema.metadata or {}).get(FINGERPRINT, b"")).decode()


def read_table(output: Output, path: str) -> pa.Table:
    """The columns of a manifest as they are, without a check of the values.

    Raises:
        FileNotFoundError: there is no such manifest.
        InputError: it is not a Parquet file.
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
        raise InputError(f"{path}: not a readable manifest: {error}") from error


def newest_manifests(output: Output, table: str) -> list[str]:
    """Return the paths of a table's manifests, the newest of each shard, in the shards' order.

    Manifests that do not belong to a shard, such as that of the rejected input rows, come last.
    """
    newest: dict[tuple[int, int], Shard] = {}
    others: list[str] = []
    for name in output.names(f"manifests/{table}"):
        if (shard := Shard.of_manifest(name)) is not None:
            key = (shard.count, shard.index)
            newest[key] = max(shard, newest.get(key, shard))
        elif _OF_JOB.fullmatch(name):  # anything else is not ours, such as a conflicted copy
            others.append(f"manifests/{table}/{name}")
    return [manifest_path(table, newest[key]) for key in sorted(newest)] + others


def read_manifests(output: Output, table: str, record: type[R]) -> Iterator[R]:
    """Yield the records of a table, shard after shard."""
    for _, records in read_each(output, newest_manifests(output, table), record):
        yield from records


def read_each(
    output: Output, paths: Sequence[str], record: type[R]
) -> Iterator[tuple[str, list[R]]]:
    """Yield the paths of manifests with their records; `READERS` of them are read at a time."""
    with ThreadPoolExecutor(READERS, thread_name_prefix="manifests") as readers:
        for start in range(0, len(paths), READERS):
            some = paths[start : start + READERS]
            read = partial(read_manifest, output, record=record)
            yield from zip(some, readers.map(read, some), strict=True)
