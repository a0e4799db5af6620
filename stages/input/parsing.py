"""Converts the rows of one file to stories, or to rejections that say why they are none."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

from storyreel.stages.input.config import InputConfig
from storyreel.stages.input.formats import parse_file
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


def parse_stories(
    limits: InputConfig, file: IO[bytes], path: str, name: str
) -> Iterator[Story | Rejection]:
    """Yield the stories of one open file; `name` stands for its path in what is yielded.

    A file that is damaged ends with a rejection of row 0.

    Raises:
        OSError: storage fails.
    """
    try:
        for number, row in parse_file(file, path):
            yield _story_or_rejection(limits, name, number, row)
    except Exception as error:  # each format has exceptions of its own
        if is_storage_failure(error):
            raise
        yield rejection(name, 0, "", reason_of(error))


def is_storage_failure(error: Exception) -> bool:
    """True if reading failed for a reason other than the file's content."""
    # Arrow reports a damaged file as a plain OSError, without an errno.
    damaged = type(error) is OSError and error.errno is None
    return is_passing(error) or (isinstance(error, OSError) and not damaged)


def _story_or_rejection(
    limits: InputConfig, name: str, number: int, row: Mapping[str, Any] | Exception
) -> Story | Rejection:
    if isinstance(row, Exception):
        return rejection(name, number, "", reason_of(row))
    try:
        return to_story(row, name, number, limits)
    except ValueError as error:
        return rejection(name, number, valid_id(row.get("story_id")), str(error))


def rejection(name: str, number: int, story_id: str, text: str) -> Rejection:
    """A rejection whose message begins with the place."""
    place = f"{name} row {number}" if number else name
    # JSON may escape lone surrogates, but they cannot be encoded as UTF-8 and so not be stored.
    message = f"{place}: {text}".encode("utf-8", "backslashreplace").decode()
    return Rejection(source_file=name, source_row=number, story_id=story_id, message=message)


def reason_of(error: Exception) -> str:
    """Why reading failed, without a place and without credentials."""
    if isinstance(error, MemoryError):
        return "takes more memory to parse than is allowed"
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 text (byte {error.object[error.start]:#04x})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return without_credentials(f"{error}" or type(error).__name__)
