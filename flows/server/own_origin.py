"""Refuses requests that pages of other origins send, and those that reach us by another name."""

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class OwnOriginOnly:
    """An ASGI application for browsers that only its own pages may use.

    A page of another origin can send requests to a server on loopback from within the browser of
    the person who visits it; with DNS rebinding it even reads the answers, under its own host name.
    """

    def __init__(self, app: ASGIApp, host_names: Iterable[str]) -> None:
        """Guard `app`, which is reached by `host_names`, without ports."""
        self._app = app
        self._host_names = frozenset(name.lower() for name in host_names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, or refuse it with status 403 (a web socket: with code 1008)."""
        app = self._app
        if scope["type"] in {"http", "websocket"} and not self._is_own(Headers(scope=scope)):
            app = _refuse if scope["type"] == "websocket" else _FORBIDDEN
        await app(scope, receive, send)

    def _is_own(self, headers: Headers) -> bool:
        host = headers.get("host", "")
        if _name_of(f"//{host}") not in self._host_names:
            return False
        origin = headers.get("origin")  # browsers send it; our own commands do not
        return origin is None or urlsplit(origin).netloc.lower() == host.lower()


_FORBIDDEN = PlainTextResponse("not reached by its own name, or from its own pages", 403)


async def _refuse(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "websocket.close", "code": 1008})


def _name_of(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
