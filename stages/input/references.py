"""Reads, checks and copies the images that stories name.

These are the reference images of characters and the control images of panels. Stories are
untrusted: an image must lie in the folder of the story's file, in a data URI, or at a host or in a
bucket that the configuration allows. The job copies it into its output under the hash of its
content. So the image is part of the job's fingerprint, and workers read from the output alone.
"""

import base64
import hashlib
import ipaddress
import posixpath
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import fsspec
import httpx
from fsspec.implementations.local import LocalFileSystem

from storyreel.stages.errors import InputError, StorageError
from storyreel.stages.output.access_config import ReferencesConfig
from storyreel.stages.output.patience import is_passing
from storyreel.stages.output.records import Character, PanelInput, Story
from storyreel.stages.output.urls import without_credentials
from storyreel.stages.pictures import MAX_REFERENCE_BYTES, decode_reference

TIMEOUT_S = 30.0
"""Longest wait for a host, in seconds."""
ATTEMPTS = 3
PAUSE_S = 2.0
"""Pause before the next attempt to read an image, in seconds."""

_TEMPORARY = frozenset({httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS})

FOLDER = "references"
"""Folder of the copies, below the output."""


class References:
    """Copies the images of an input's stories; an image that stories share is read once."""

    def __init__(
        self, input_url: str, config: ReferencesConfig, keep: Callable[[str, bytes], Any]
    ) -> None:
        """Read nothing yet.

        Args:
            input_url: the input; images beside its files are read from the same file system.
            config: the hosts and buckets from which images may be read.
            keep: called with the path below the output and the content of each image.
        """
        self._filesystem: Any = fsspec.core.url_to_fs(input_url)[0]
        self._config = config
        self._keep = keep
        self._copies: dict[tuple[str, str], str] = {}

    def adopt(self, story: Story) -> Story:
        """Copy the images of a story, and return the story with the paths of the copies.

        Raises:
            InputError: an image is at a place that is not allowed, cannot be read, or is not an
                allowed picture; the message names the character or the panel, and the image.
            StorageError: reading an image failed for a reason that may pass; the message names the
                same.
        """
        folder = posixpath.dirname(story.source_file)
        characters = tuple(self._adopt_character(one, folder) for one in story.characters)
        panels = tuple(self._adopt_panel(*one, folder) for one in enumerate(story.panels))
        return replace(story, characters=characters, panels=panels)

    def _adopt_character(self, character: Character, folder: str) -> Character:
        place = f"characters: {character.name!r}: reference_image"
        copy = self._adopt(character.reference_image, folder, place)
        return replace(character, reference_image=copy)

    def _adopt_panel(self, index: int, panel: PanelInput, folder: str) -> PanelInput:
        copy = self._adopt(panel.control_image, folder, f"panels[{index}]: control_image")
        return replace(panel, control_image=copy)

    def _adopt(self, image: str | None, folder: str, place: str) -> str | None:
        if image is None:
            return None
        shown = without_credentials(image)[:200]
        try:
            return self._copy(image, folder)
        except StorageError as error:
            raise StorageError(f"{place} {shown!r} {error}") from None
        except ValueError as error:
            raise InputError(f"{place} {shown!r} {error}") from None

    def _copy(self, image: str, folder: str) -> str:
        if (folder, image) not in self._copies:
            content = self._read(image, folder)
            suffix = decode_reference(content)[1]
            copy = f"{FOLDER}/{hashlib.sha256(content).hexdigest()}.{suffix}"
            self._keep(copy, content)
            self._copies[folder, image] = copy
        return self._copies[folder, image]

    def _read(self, image: str, folder: str) -> bytes:
        # A story that is rejected because its host was down for a moment would be lost to the job.
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._read_once(image, folder)
            except ValueError:
                raise
            except Exception as error:  # each file system of fsspec has exceptions of its own
                reason = getattr(error, "strerror", None) or without_credentials(str(error))
                message = f"cannot be read: {reason or type(error).__name__}"
                if not is_passing(error):
                    raise InputError(message) from None
                if attempt == ATTEMPTS:
                    raise StorageError(message) from None
            time.sleep(PAUSE_S)
        raise AssertionError("the last attempt returns or raises")

    def _read_once(self, image: str, folder: str) -> bytes:
        if image.startswith("data:"):
            return _decoded(image)
        if image.startswith("https://"):
            return _fetch(image, self._config)
        if image.startswith("s3://"):
            return _read_s3(image, self._config)
        path = _path_beside_stories(image, folder, self._filesystem)
        return _read_limited(self._filesystem, path)


def _decoded(image: str) -> bytes:
    """The content of an image that a data URI holds."""
    found = re.match(r"data:image/[a-z.+-]+;base64,", image)
    if found is None:
        raise InputError("must be a data URI of an image in base64, such as data:image/png;base64,")
    try:
        return base64.b64decode(image[found.end() :], validate=True)
    except ValueError:
        raise InputError("is a data URI whose base64 is damaged") from None


def _path_beside_stories(image: str, folder: str, filesystem: Any) -> str:
    """Resolve an image path relative to the story's folder; it must stay inside."""
    parts = PurePosixPath(image)
    inside = parts.parts and not parts.is_absolute() and ".." not in parts.parts
    if not inside or "://" in image or "::" in image or "\0" in image:
        raise InputError(
            "must be a path inside the folder of the story's file, a data URI, or an https:// or"
            " s3:// URL that references.https_hosts or references.s3_buckets allows"
        )
    path = posixpath.join(folder, image)
    if isinstance(filesystem, LocalFileSystem):
        root, target = Path(folder).resolve(), Path(path).resolve()
        if not target.is_relative_to(root):
            raise InputError("is a link that leaves the folder of the story's file")
        if not target.is_file():  # reading a pipe or a device may never end
            raise InputError("is not a file")
    return path


def _read_limited(filesystem: Any, path: str) -> bytes:
    # One byte more than is allowed: `decode_reference` refuses the image by its size.
    with filesystem.open(path, "rb") as file:
        content: bytes = file.read(MAX_REFERENCE_BYTES + 1)
    return content


def _read_s3(image: str, config: ReferencesConfig) -> bytes:
    bucket = image.removeprefix("s3://").partition("/")[0]
    if bucket not in config.s3_buckets:
        allowed = ", ".join(config.s3_buckets) or "none"
        raise InputError(f"is in the bucket {bucket!r}; references.s3_buckets allows {allowed}")
    filesystem, path = fsspec.core.url_to_fs(image)
    return _read_limited(filesystem, path)


def _fetch(image: str, config: ReferencesConfig) -> bytes:
    parts = urlsplit(image)
    host = parts.hostname or ""
    if host not in config.https_hosts or parts.username is not None:
        allowed = ", ".join(config.https_hosts) or "none"
        raise InputError(f"is on the host {host!r}; references.https_hosts allows {allowed}")
    port = parts.port or 443
    # Connect to the address that was checked: the name could resolve to another one by then.
    address = _address(host, port, config)
    netloc = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    url = parts._replace(netloc=netloc, fragment="").geturl()
    # With an explicit transport, httpx ignores the proxies that the environment names.
    transport = httpx.HTTPTransport(verify=httpx.create_ssl_context())
    headers = {"Host": parts.netloc, "Accept-Encoding": "identity"}
    with (
        httpx.Client(transport=transport, timeout=TIMEOUT_S) as client,
        client.stream("GET", url, headers=headers, extensions={"sni_hostname": host}) as response,
    ):
        if response.is_server_error or response.status_code in _TEMPORARY:
            raise TimeoutError(f"the host answers {response.status_code}")  # is read again
        if response.status_code != httpx.codes.OK:
            raise InputError(f"cannot be read: the host answers {response.status_code}")
        return b"".join(_up_to_limit(response.iter_raw()))


def _up_to_limit(blocks: Iterator[bytes]) -> Iterator[bytes]:
    size = 0
    for block in blocks:
        yield block
        size += len(block)
        if size > MAX_REFERENCE_BYTES:
            return


def _address(host: str, port: int, config: ReferencesConfig) -> str:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            raise TimeoutError(error.strerror) from error  # is read again
        raise
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        if not (config.private_addresses or ipaddress.ip_address(address).is_global):
            raise InputError(
                f"is on the host {host!r}, whose address {address} is not a public one"
                " (references.private_addresses allows it)"
            )
    return addresses[0]
