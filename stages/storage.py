"""The output of a job, on a local disk or in an object store: a file under its name is complete.

On a local file system a file is written under a temporary name and renamed. Object stores have no
rename; there one PUT makes the whole object visible or nothing.
"""

import hashlib
import os
import uuid
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from stages.records import File

OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl"})
"""fsspec protocols whose PUT publishes an object atomically."""


class Output:
    """Reads and atomically publishes the files below one URL; paths are relative to it."""

    def __init__(self, url: str) -> None:
        """Open `url` (a local path, or any fsspec URL of a local disk or an object store).

        Raises:
            ValueError: the file system cannot publish atomically for several processes.
        """
        self.url = url
        try:
            self._filesystem, root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise ValueError(f"output {url}: {error}") from error
        self._root = root.rstrip("/")
        self._local = isinstance(self._filesystem, LocalFileSystem)
        if not (self._local or _protocols(self._filesystem) & OBJECT_STORES):
            allowed = ", ".join(sorted(OBJECT_STORES))
            raise ValueError(f"output {url}: must be a local path or one of {allowed}")

    def check_writable(self) -> None:
        """Write and remove a probe.

        Raises:
            ValueError: the place cannot be written.
        """
        probe = f".probe-{uuid.uuid4().hex}"
        try:
            self.publish(probe, b"")
            self._filesystem.rm_file(self._path(probe))
        except Exception as error:  # every store has its own exceptions; all mean the same here
            raise ValueError(f"output {self.url}: cannot be written: {error}") from error

    def publish(self, path: str, content: bytes) -> File:
        """Publish `content` under `path`, atomically."""
        target = self._path(path)
        if self._local:
            _write_and_rename(Path(target), content)
        else:
            self._filesystem.pipe_file(target, content)
        return File(path=path, size=len(content), sha256=hashlib.sha256(content).hexdigest())

    def publish_file(self, path: str, local: Path) -> File:
        """Publish a finished local file under `path`, atomically; `local` stays as it is."""
        target = self._path(path)
        if self._local:
            _copy_and_rename(local, Path(target))
        else:
            self._filesystem.put_file(str(local), target)
        return File(path=path, size=local.stat().st_size, sha256=checksum(local))

    def read(self, path: str) -> bytes:
        """The content of a file.

        Raises:
            FileNotFoundError: there is no such file.
        """
        content: bytes = self._filesystem.cat_file(self._path(path))
        return content

    def read_checked(self, file: File) -> bytes:
        """The content of `file`.

        Raises:
            ValueError: the file is missing, or is not the one that was published.
        """
        try:
            content = self.read(file.path)
        except FileNotFoundError:
            raise ValueError(f"{file.path}: missing from {self.url}") from None
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise ValueError(
                f"{file.path}: damaged: {len(content)} bytes, or other ones than the"
                f" {file.size} bytes with sha256 {file.sha256[:12]} that were published"
            )
        return content

    def exists(self, path: str) -> bool:
        """Whether a file is there."""
        return bool(self._filesystem.exists(self._path(path)))

    def names(self, folder: str) -> list[str]:
        """The names in a folder, sorted; none if the folder is not there."""
        self._filesystem.invalidate_cache()
        try:
            entries = self._filesystem.ls(self._path(folder), detail=False)
        except FileNotFoundError:
            return []
        names = (PurePosixPath(entry).name for entry in entries)
        return sorted(name for name in names if not name.startswith("."))

    def remove(self, path: str) -> None:
        """Remove a file that may be there."""
        if self.exists(path):
            self._filesystem.rm_file(self._path(path))

    def remove_folder(self, path: str) -> None:
        """Remove a folder that may be there, with all it holds."""
        if self.exists(path):
            self._filesystem.rm(self._path(path), recursive=True)

    def location(self, path: str) -> str:
        """Where a person finds a file: a local path, or a URL."""
        full = self._path(path)
        return full if self._local else str(self._filesystem.unstrip_protocol(full))

    def _path(self, path: str) -> str:
        parts = PurePosixPath(path)
        if parts.is_absolute() or ".." in parts.parts:
            raise ValueError(f"{path!r}: leaves the output")
        return f"{self._root}/{path}"


def checksum(path: Path) -> str:
    """The sha256 of a local file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _protocols(filesystem: Any) -> set[str]:
    protocol = filesystem.protocol
    return {protocol} if isinstance(protocol, str) else set(protocol)


def _temporary(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.with_name(f".{uuid.uuid4().hex}.tmp")


def _write_and_rename(target: Path, content: bytes) -> None:
    temporary = _temporary(target)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _copy_and_rename(local: Path, target: Path) -> None:
    temporary = _temporary(target)
    try:
        with local.open("rb") as source, temporary.open("wb") as file:
            while block := source.read(1 << 20):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
