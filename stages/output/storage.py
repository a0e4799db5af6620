"""Reads and publishes the files of a job, on a local disk or in an object store.

A file is published atomically: it is not visible under its name before it is complete. On a local
file system it is written under a temporary name and renamed. Object stores have no rename, but one
PUT makes the whole object visible, or nothing. While storage is full or does not respond, calls are
repeated (`storyreel.stages.output.patience`).
"""

import errno
import hashlib
import os
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from storyreel.stages.errors import InputError
from storyreel.stages.output.copies import own_name
from storyreel.stages.output.patience import patiently
from storyreel.stages.output.processes import ProcessId
from storyreel.stages.output.records import File
from storyreel.stages.output.serialization import from_json
from storyreel.stages.output.urls import check_no_credentials, without_credentials

T = TypeVar("T")

OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl"})
"""fsspec protocols whose PUT publishes an object atomically."""

TEMPORARY = ".tmp"
"""Folder of a local output for files that are being written; readers ignore it."""

LEFTOVER_S = 86400.0
"""Age after which a temporary file of another machine's process is removed, seconds."""

SETTLE_S = 5.0
"""Wait before a file is read back in a store without exclusive creation, seconds."""


class Output:
    """Reads and atomically publishes the files below one URL; paths are relative to it.

    Every method raises `InputError` for a path that leads out of the output, by its parts or by a
    symbolic link, and `StorageError` if storage does not respond for too long.
    """

    def __init__(self, url: str) -> None:
        """Open `url` (a local path, or any fsspec URL of a local disk or an object store).

        Raises:
            InputError: the file system cannot publish atomically for several processes, or the URL
                contains a secret.
        """
        check_no_credentials("output", url)
        if "::" in url:  # fsspec would chain file systems, and write beside the place
            raise InputError(f"output {url}: must be one location, without '::'")
        self.url = url
        try:
            # fsspec caches listings by default; a cached one lacks what other processes publish.
            self._filesystem, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise InputError(f"output {url}: {error}") from error
        self._root = root.rstrip("/")
        self._local = isinstance(self._filesystem, LocalFileSystem)
        self._real_root = Path(self._root).resolve() if self._local else Path()
        if not (self._local or is_object_store(self._filesystem)):
            allowed = ", ".join(sorted(OBJECT_STORES))
            raise InputError(f"output {url}: must be a local path or one of {allowed}")

    def check_writable(self) -> None:
        """Write a small file and remove it.

        Raises:
            InputError: the output cannot be written.
        """
        probe = f".probe-{uuid.uuid4().hex}"
        try:
            self._put(probe, b"")
            self._filesystem.rm_file(self._path(probe))
        except Exception as error:  # each store has its own exceptions, here with one meaning
            reason = without_credentials(str(error))
            raise InputError(f"output {self.url}: cannot be written: {reason}") from error

    def check_held(self) -> None:
        """Check that what is published may count; raises where a lock on the output was lost."""

    def publish(self, path: str, content: bytes) -> File:
        """Publish `content`, atomically, under the name that `path` has for the current attempt."""
        path = own_name(path)
        self._patiently(lambda: self._put(path, content))
        return File(path=path, size=len(content), sha256=hashlib.sha256(content).hexdigest())

    def publish_file(self, path: str, local: Path) -> File:
        """Publish a copy of a finished local file as `publish` does."""
        path = own_name(path)
        self._patiently(lambda: self._put_file(path, local))
        return File(path=path, size=local.stat().st_size, sha256=checksum(local))

    def publish_new(self, path: str, content: bytes) -> bool:
        """Publish `content` under `path` unless it exists; of several writers one succeeds.

        `content` must differ from that of every other writer. In a store without conditional writes
        the protocol is weaker: write, wait `SETTLE_S`, and read back whose content stayed. There
        two writers both succeed if one stalls that long between its look and its write.

        Returns:
            True if `path` now has this content.
        """
        return self._patiently(lambda: self._put_new(path, content))

    def read(self, path: str) -> bytes:
        """Return the content of a file.

        Raises:
            FileNotFoundError: there is no such file.
        """
        target = self._path(path)
        # s3fs would ask for the size first, to read a large object in parts.
        options = {} if self._local else {"max_concurrency": 1}
        content: bytes = self._patiently(lambda: self._filesystem.cat_file(target, **options))
        return content

    def read_record(self, path: str, kind: type[T]) -> T:
        """Read a JSON file that contains one record, or a mapping of records (see `from_json`).

        Raises:
            FileNotFoundError: there is no such file.
            InputError: it is not JSON, or not a record of this kind.
        """
        content = self.read(path)
        try:
            return from_json(kind, content)
        except InputError as error:
            raise InputError(f"{path}: not readable: {error}") from error

    def read_checked(self, file: File) -> bytes:
        """Return the content of `file`, compared with its checksum.

        Raises:
            InputError: the file is missing or damaged.
        """
        try:
            content = self.read(file.path)
        except FileNotFoundError:
            raise InputError(f"{file.path}: missing from {self.url}") from None
        _check(file, len(content), hashlib.sha256(content).hexdigest())
        return content

    def check(self, file: File) -> None:
        """Compare a file of any size with its checksum, reading it in blocks.

        Raises:
            InputError: the file is missing or damaged.
        """
        try:
            size, sha256 = self._patiently(lambda: self._digest(file.path))
        except FileNotFoundError:
            raise InputError(f"{file.path}: missing from {self.url}") from None
        _check(file, size, sha256)

    def exists(self, path: str) -> bool:
        """Return True if a file or a folder exists."""
        target = self._path(path)
        return self._patiently(lambda: self._is_there(target))

    def names(self, folder: str) -> list[str]:
        """Return the sorted names in a folder, without hidden ones; `[]` if it does not exist."""
        target = self._path(folder)
        try:
            entries = self._patiently(lambda: self._filesystem.ls(target, detail=False))
        except (FileNotFoundError, NotADirectoryError):
            return []
        inside = {PurePosixPath(entry).name for entry in entries if entry.rstrip("/") != target}
        return sorted(name for name in inside if not name.startswith("."))

    def numbers(self, folder: str, digits: int) -> list[int]:
        """Return the numbers of the files in a folder whose names are a number and `.json`, sorted.

        Other names are not ours: a cloud drive may put its copies there.

        Args:
            folder: the folder; it need not exist.
            digits: the least number of digits.
        """
        named = re.compile(rf"([0-9]{{{digits},}})\.json")
        return sorted(int(found[1]) for found in map(named.fullmatch, self.names(folder)) if found)

    def remove(self, path: str) -> None:
        """Remove a file if it exists."""
        target = self._path(path)
        self._patiently(lambda: _unless_missing(self._filesystem.rm_file, target))

    def remove_all(self, paths: Iterable[str]) -> None:
        """Remove files if they exist; object stores remove many in one request."""
        targets = [self._path(path) for path in paths]
        if self._local:
            for target in targets:
                self._patiently(partial(_unless_missing, self._filesystem.rm_file, target))
        elif targets:
            self._patiently(lambda: _unless_missing(self._filesystem.rm, targets))

    def remove_folder(self, path: str) -> None:
        """Remove a folder and its content if it exists."""
        target = self._path(path)
        if self.exists(path):
            self._patiently(lambda: _unless_missing(self._filesystem.rm, target, recursive=True))

    def remove_leftovers(self) -> None:
        """Remove temporary files that dead processes left behind.

        Whether a process of this machine is dead can be checked; a file of another machine's is
        removed once it is older than `LEFTOVER_S`. Object stores have no temporary files.
        """
        folder = Path(self._path(TEMPORARY))
        if not (self._local and folder.is_dir()):
            return
        for path in folder.iterdir():
            if _is_left_behind(path):
                path.unlink(missing_ok=True)

    def location(self, path: str) -> str:
        """Return where a person finds a file: a local path or a URL."""
        full = self._path(path)
        return full if self._local else str(self._filesystem.unstrip_protocol(full))

    def _patiently(self, call: Callable[[], T]) -> T:
        return patiently(f"output {self.url}", call)

    def _path(self, path: str) -> str:
        parts = PurePosixPath(path)
        full = f"{self._root}/{path}" if path else self._root
        if parts.is_absolute() or ".." in parts.parts or "\0" in path or self._links_out(full):
            raise InputError(f"{path!r}: leaves the output")
        return full

    def _links_out(self, full: str) -> bool:
        if not self._local:
            return False
        return not Path(full).resolve().is_relative_to(self._real_root)

    def _is_there(self, target: str) -> bool:
        try:
            self._filesystem.info(target)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def _put(self, path: str, content: bytes) -> None:
        target = self._path(path)
        if not self._local:
            self._filesystem.pipe_file(target, content)
            return
        with self._temporary(target) as (file, temporary):
            file.write(content)
            _finish(file)
            temporary.replace(target)

    def _put_file(self, path: str, local: Path) -> None:
        target = self._path(path)
        if not self._local:
            self._filesystem.put_file(str(local), target)
            return
        with local.open("rb") as source, self._temporary(target) as (file, temporary):
            while block := source.read(1 << 20):
                file.write(block)
            _finish(file)
            temporary.replace(target)

    def _put_new(self, path: str, content: bytes) -> bool:
        target = self._path(path)
        try:
            if self._local:
                with self._temporary(target) as (file, temporary):
                    file.write(content)
                    _finish(file)
                    os.link(temporary, target)
            else:
                self._filesystem.pipe_file(target, content, mode="create")
        except FileExistsError:
            # It may be our own, if the store's answer to an earlier attempt got lost.
            return self.read(path) == content
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EPERM, errno.ENOTSUP):
                raise
            return self._put_new_weakly(path, content)
        return True

    def _put_new_weakly(self, path: str, content: bytes) -> bool:
        if self.exists(path):
            return False
        self._put(path, content)
        time.sleep(SETTLE_S)
        return self.read(path) == content

    @contextmanager
    def _temporary(self, target: str) -> Iterator[tuple[IO[bytes], Path]]:
        """Yield a new file on the output's own file system, as rename needs; removed at the end.

        The caller gives it the name `target`, which is durable when the context has ended.
        """
        writer = ProcessId.current()
        name = f"{writer.machine}-{writer.pid}-{writer.started}-{uuid.uuid4().hex}"
        temporary = Path(self._path(TEMPORARY)) / name
        temporary.parent.mkdir(parents=True, exist_ok=True)
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                yield file, temporary
            _sync_folder(target)
        finally:
            temporary.unlink(missing_ok=True)

    def _digest(self, path: str) -> tuple[int, str]:
        content = hashlib.sha256()
        size = 0
        with self._filesystem.open(self._path(path), "rb") as file:
            while block := file.read(1 << 20):
                content.update(block)
                size += len(block)
        return size, content.hexdigest()


def checksum(path: Path) -> str:
    """Return the sha256 of a local file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(file: File, size: int, sha256: str) -> None:
    if sha256 != file.sha256:
        raise InputError(
            f"{file.path}: damaged: has {size} bytes with sha256 {sha256[:12]}, published were"
            f" {file.size} bytes with sha256 {file.sha256[:12]}"
        )


def is_object_store(filesystem: Any) -> bool:
    """Return True if a file system of fsspec is one of `OBJECT_STORES`."""
    protocol = filesystem.protocol
    return not OBJECT_STORES.isdisjoint({protocol} if isinstance(protocol, str) else protocol)


def _finish(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(target: str) -> None:
    """Make the name of a file durable: a power cut must not take a unit that counts as done."""
    folder = os.open(Path(target).parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _unless_missing(remove: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    try:
        remove(*arguments, **options)
    except FileNotFoundError:
        return


def _is_left_behind(path: Path) -> bool:
    machine, pid, started, *_ = [*path.name.split("-"), "", "", ""]
    if pid.isdecimal() and started.isdecimal():
        writer = ProcessId(host="", machine=machine, pid=int(pid), started=int(started))
        if writer.is_near:
            return writer.is_dead
    try:
        return time.time() - path.stat().st_mtime > LEFTOVER_S
    except FileNotFoundError:
        return False
