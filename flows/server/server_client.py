"""A client of the Storyreel server that a command talks to."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    temporary_settings,
)

from storyreel.flows.server.server_config import ServerConfig


@contextmanager
def connected_to(server: ServerConfig | None) -> Iterator[SyncPrefectClient]:
    """A client of `server`, or of the one that Prefect's own settings name.

    Raises:
        ConnectionError: nothing answers there, or it does not accept our password.
    """
    settings: dict[Any, Any] = {}
    if server is not None:
        settings = {PREFECT_API_URL: server.api_url, PREFECT_API_AUTH_STRING: server.auth_string()}
    with temporary_settings(settings):
        url = PREFECT_API_URL.value()
        try:
            with get_client(sync_client=True) as client:
                client.hello()
                yield client
        except httpx.TransportError as error:
            raise ConnectionError(
                f"no Storyreel server answers at {url}: {error}; start one with `storyreel serve`,"
                " or name another with --server"
            ) from error
        except httpx.HTTPStatusError as error:
            if error.response.status_code not in {401, 403}:
                raise
            raise ConnectionError(f"the server at {url} does not accept our password") from error
