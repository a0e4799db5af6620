"""Web servers that an input may be read from: public ones, unless the configuration allows more.

Whoever submits a job to a server of a team names an address that the server's machine then reads:
without this rule, also one that only that machine can reach, such as a cloud's metadata service.
"""

import ipaddress
import socket
from typing import Any

import aiohttp
import fsspec

from storyreel.stages.errors import InputError
from storyreel.stages.input.config import InputConfig

SCHEMES = ("http://", "https://")


def open_file_system(url: str, config: InputConfig) -> tuple[Any, str]:
    """Return the file system of an input's URL, and its path there.

    Raises:
        InputError: the URL leads to a web server through another file system.
    """
    if "::" in url and any(scheme in url for scheme in SCHEMES):
        raise InputError("a web address must stand alone, without '::'")
    if not url.startswith(SCHEMES) or config.private_addresses:
        return fsspec.core.url_to_fs(url)  # type: ignore[no-any-return]
    return fsspec.core.url_to_fs(url, get_client=_public_client)  # type: ignore[no-any-return]


async def _public_client(**options: Any) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(socket_factory=_public_socket)
    return aiohttp.ClientSession(connector=connector, **options)


def _public_socket(target: Any) -> socket.socket:
    """Open a socket for an address as `socket.getaddrinfo` returns it.

    Here every connection is seen, those of redirects too, with the address that is connected to: a
    name could resolve to another one later.
    """
    family, kind, protocol, _, place = target
    address = str(place[0])
    if not ipaddress.ip_address(address).is_global:
        raise InputError(
            f"the address {address} is not a public one (input.private_addresses allows it)"
        )
    return socket.socket(family, kind, protocol)
