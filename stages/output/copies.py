"""Names of the files of an attempt while an earlier attempt may still be writing (`attempts`)."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import PurePosixPath

_copy: ContextVar[int] = ContextVar("_copy", default=1)


@contextmanager
def published_as_copy(number: int) -> Iterator[None]:
    """Publish files under the names of that copy; the first has the plain names."""
    token = _copy.set(number)
    try:
        yield
    finally:
        _copy.reset(token)


def own_name(path: str) -> str:
    """Return the name that the current attempt publishes a file under: `fox~2.mp4` for copy 2.

    No story id contains `~`, so that no other story's file has this name.
    """
    number = _copy.get()
    return path if number == 1 else _named(path, number)


def plain_name(path: str) -> str:
    """Return the name that the first copy of a file has."""
    return _named(path, 1)


def copy_of(path: str) -> int:
    """Return which copy of a file has this name."""
    _, tilde, number = PurePosixPath(path).stem.rpartition("~")
    return int(number) if tilde else 1


def earlier_copies(path: str, first: int = 1) -> list[str]:
    """Return the names that copies of a file before this one have, from the copy `first` on."""
    return [_named(path, copy) for copy in range(first, copy_of(path))]


def _named(path: str, copy: int) -> str:
    parts = PurePosixPath(path)
    stem = parts.stem.partition("~")[0]
    return str(
        parts.with_name(f"{stem}{parts.suffix}" if copy == 1 else f"{stem}~{copy}{parts.suffix}")
    )
