"""The formats of story files: the reader of each, and what folders skip.

A reader knows no stories: `story_rows` says which fields a row may have. To add a format, write a
reader in `readers` and name its suffix in `_READERS`.
"""

import gzip
import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import IO, Any

from storyreel.stages.input.readers.encodings import SAMPLE_BYTES, open_text, read_text
from storyreel.stages.input.readers.json_files import begins_with_object, read_json, read_jsonl
from storyreel.stages.input.readers.prose import read_prose
from storyreel.stages.input.readers.rows import Row
from storyreel.stages.input.readers.scripts import as_story
from storyreel.stages.input.readers.tables import read_csv, read_parquet
from storyreel.stages.input.readers.yaml_files import read_yaml

GZIP = ".gz"
_READERS: Mapping[str, Callable[[IO[bytes]], Iterator[Row]]] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
    ".yaml": read_yaml,
    ".yml": read_yaml,
}
_TEXTS = (".txt", ".md", ".markdown", ".fountain", ".srt", ".vtt")
SUFFIXES = (*_READERS, *_TEXTS)
"""Suffixes of the files that are read from a folder; `.gz` may follow."""
CONFINED = frozenset({".json", ".parquet", ".yaml", ".yml", GZIP})
"""Suffixes of the files whose few bytes may stand for gigabytes; they are parsed apart."""
# Beside stories there are often words about them.
_ABOUT = re.compile(r"(?:readme|license|licence|changelog|notice|copying)\b.*", re.IGNORECASE)


def parse_file(file: IO[bytes], path: str) -> Iterator[Row]:
    """Yield the rows of an open file; the suffix of its path says which format it has.

    Raises:
        Exception: the file is damaged; each format has its own exceptions.
    """
    if PurePosixPath(path).suffix.lower() == GZIP:
        with gzip.open(file) as unpacked:
            yield from _parse(unpacked, path)
    else:
        yield from _parse(file, path)


def _parse(file: Any, path: str) -> Iterator[Row]:
    kind = suffix(path)
    if kind in (*_TEXTS, ".csv", ".tsv") and _contains_objects(file):
        yield from read_jsonl(file)
    elif kind in _TEXTS:
        told = read_prose(read_text(file), kind)
        yield 1, {"story_id": story_id_of(path), "title": _stem(path), **told}
    elif kind in (".json", ".yaml", ".yml"):
        for number, row in _READERS[kind](file):
            yield number, as_story(row, story_id_of(path))
    else:
        yield from _READERS[kind](file)


def _contains_objects(file: IO[bytes]) -> bool:
    """True if a file contains JSON lines, whatever its suffix says."""
    sample = file.read(1)
    file.seek(0)
    if sample not in (b"{", b"\xef", b"\xff", b"\xfe"):
        return False
    text = open_text(file)
    found = begins_with_object(text.read(SAMPLE_BYTES))
    text.detach()  # closing it would close the file
    file.seek(0)
    return found


def suffix(path: str) -> str:
    """The suffix of a path in lower case, such as `.jsonl`; that of a `.gz` file is the inner."""
    pure = PurePosixPath(path)
    return PurePosixPath(pure.stem if pure.suffix.lower() == GZIP else pure.name).suffix.lower()


def is_confined(path: str) -> bool:
    """True if a file has to be parsed apart."""
    return not CONFINED.isdisjoint({suffix(path), PurePosixPath(path).suffix.lower()})


def is_story_file(path: str) -> bool:
    """True if a folder's file is read."""
    return suffix(path) in SUFFIXES and not _ABOUT.fullmatch(PurePosixPath(path).name)


def story_id_of(path: str) -> str:
    """A safe story id from a file's name: `The Fox.txt` is `The-Fox`.

    Letters that an id cannot have are named by a hash, so that two such files stay two stories.
    """
    stem = _stem(path)
    plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    words = re.sub(r"[^A-Za-z0-9._-]+|\.\.+", "-", plain).strip(".-_")[:80]
    if stem.isascii() and words:
        return words
    name = hashlib.sha256(stem.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return f"{words or 'story'}-{name}"


def _stem(path: str) -> str:
    pure = PurePosixPath(path)
    return PurePosixPath(pure.stem).stem if pure.suffix.lower() == GZIP else pure.stem
