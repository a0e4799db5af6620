"""Reads the stories of a file, a folder or a glob at any fsspec URL, one row after the other.

A row that is not a valid story becomes a `Rejection`, and reading continues with the next row.
Storage that fails ends the reading instead: the rows behind the failure are unknown, and a job
laid out without them would be a different job.
"""

import hashlib
import itertools
import logging
import posixpath
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from storyreel.stages.errors import InputError
from storyreel.stages.input.config import InputConfig
from storyreel.stages.input.confined import ConfinedParser
from storyreel.stages.input.formats import SUFFIXES, is_confined, is_story_file, suffix
from storyreel.stages.input.parsing import (
    Rejection,
    is_storage_failure,
    parse_stories,
    reason_of,
    rejection,
)
from storyreel.stages.input.web import open_file_system
from storyreel.stages.output.records import Story
from storyreel.stages.output.storage import is_object_store
from storyreel.stages.output.urls import without_credentials
from storyreel.stages.validation import shorten

logger = logging.getLogger(__name__)

MAX_TOLD = 20
"""Names that a message lists."""


def read_stories(url: str, limits: InputConfig) -> Iterator[Story | Rejection]:
    """Yield the stories of a file, of a folder's files, or of a glob, in the order of the paths.

    What a folder has besides story files, and its subfolders, are not read; a warning names them.

    Raises:
        InputError: there is no story, or the only file is damaged; while the stories are read,
            storage fails.
    """
    filesystem, paths = _find(url, limits)
    stories = _unique(_read_files(filesystem, paths, limits))
    first = next(stories, None)
    if first is None:
        raise InputError(f"input {without_credentials(url)}: contains no stories")
    if isinstance(first, Rejection) and first.source_row == 0 and len(paths) == 1:
        raise InputError(first.message)
    return itertools.chain([first], stories)


def input_version(url: str, config: InputConfig) -> str:
    """Return a hash that is another one when a file of an input was changed, added or removed.

    No file is read: file systems tell sizes, times and checksums. It is "" where they do not, as on
    a web server.

    Raises:
        InputError: there is no such input.
    """
    filesystem, paths = _find(url, config)
    if not (isinstance(filesystem, LocalFileSystem) or is_object_store(filesystem)):
        return ""
    content = hashlib.sha256()
    for path in paths:
        content.update(f"{path}\0{filesystem.ukey(path)}\0".encode("utf-8", "surrogateescape"))
    return content.hexdigest()


def _find(url: str, config: InputConfig) -> tuple[Any, list[str]]:
    place = f"input {without_credentials(url)}"
    try:
        filesystem, path = open_file_system(url, config)
        paths = _paths(filesystem, path)
    except Exception as error:  # each file system of fsspec has exceptions of its own
        raise InputError(f"{place}: cannot be read: {reason_of(error)}") from None
    if not paths:
        raise InputError(f"{place}: no file ends in {', '.join(SUFFIXES)}")
    return filesystem, paths


def _paths(filesystem: Any, path: str) -> list[str]:
    if any(sign in path for sign in "*?[") and not filesystem.exists(path):
        found = filesystem.glob(path)
    elif filesystem.isdir(path):
        found = _files_in(filesystem, path)
    elif filesystem.exists(path):
        found = [path]
    else:
        raise FileNotFoundError("no such file or folder")
    return sorted(p for p in found if suffix(p) in SUFFIXES)


def _files_in(filesystem: Any, folder: str) -> list[str]:
    """The story files of a folder; what else is there is told."""
    entries = sorted(filesystem.ls(folder, detail=True), key=lambda entry: str(entry["name"]))
    kinds = {entry["name"]: entry["type"] for entry in entries}
    found = [name for name, kind in kinds.items() if kind == "file" and is_story_file(name)]
    others = [
        posixpath.basename(name) + ("/" if kind == "directory" else "")
        for name, kind in kinds.items()
        if name not in found
    ]
    if others:
        shown = ", ".join(map(shorten, others[:MAX_TOLD]))
        more = f" and {len(others) - MAX_TOLD} more" if len(others) > MAX_TOLD else ""
        _warn_once(f"input {without_credentials(folder)}: not read: {shown}{more}")
    return found


@lru_cache(maxsize=256)
def _warn_once(message: str) -> None:
    # A job reads its input twice.
    logger.warning("%s", message)


def _read_files(
    filesystem: Any, paths: Iterable[str], limits: InputConfig
) -> Iterator[Story | Rejection]:
    with ConfinedParser(limits) as confined:
        for path in paths:
            parse = confined.parse if is_confined(path) else partial(parse_stories, limits)
            yield from _read_file(filesystem, path, parse)


def _read_file(
    filesystem: Any, path: str, parse: Callable[..., Iterator[Story | Rejection]]
) -> Iterator[Story | Rejection]:
    name = without_credentials(path)
    try:
        with filesystem.open(path, "rb") as file:
            yield from parse(file, path, name)
    except Exception as error:  # a damaged file must not keep the others from being read
        if is_storage_failure(error):
            raise InputError(f"input {name}: cannot be read: {reason_of(error)}") from error
        yield rejection(name, 0, "", reason_of(error))


def _unique(stories: Iterable[Story | Rejection]) -> Iterator[Story | Rejection]:
    """Reject each story whose id an earlier one has."""
    seen: set[str] = set()
    for story in stories:
        # Story ids become file names, and some file systems ignore case.
        folded = story.story_id.casefold()
        if isinstance(story, Story) and folded in seen:
            text = f"story_id: {story.story_id!r}: an earlier row has this id (case is ignored)"
            yield rejection(story.source_file, story.source_row, story.story_id, text)
            continue
        if isinstance(story, Story):
            seen.add(folded)
        yield story
