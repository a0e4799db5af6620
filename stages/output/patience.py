"""Waits for storage that will serve again: a full disk, a store that throttles, a network away.

Such an error is nobody's fault, least of all the unit's: the call is made again, ever less often,
until it succeeds or has not succeeded for too long.
"""

import errno
import logging
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from storyreel.stages import heartbeat
from storyreel.stages.output.urls import without_credentials

T = TypeVar("T")

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 30.0

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_AWAY = frozenset(
    {
        errno.EAGAIN,
        errno.EBUSY,  # s3fs: throttled
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EPIPE,
        errno.ESTALE,  # NFS
        errno.ETIMEDOUT,
        getattr(errno, "EREMOTEIO", errno.EIO),  # s3fs: internal error
    }
)
_AWAY_STATUS = frozenset({408, 429, 500, 502, 503, 504})
_AWAY_NAMES = frozenset(
    {
        "ClientConnectionError",  # aiohttp
        "ClientPayloadError",
        "HTTPClientError",  # botocore
        "IncompleteRead",
        "ServiceRequestError",  # azure
        "ServiceResponseError",
        "TransportError",  # google-auth
    }
)

logger = logging.getLogger(__name__)


class StorageError(ConnectionError):
    """Storage has not served for longer than is waited for it."""


class _Limit:
    """How long this process waits; set once, when its configuration is known."""

    seconds = 3600.0


def wait_at_most(seconds: float) -> None:
    """Let this process wait so long for storage that does not serve."""
    _Limit.seconds = seconds


def patient(make: Callable[[], T], seconds: float) -> T:
    """What `make` makes in a process that waits so long for its storage."""
    wait_at_most(seconds)
    return make()


def patiently(place: str, call: Callable[[], T]) -> T:
    """What `call` returns; it is made again while storage is full or away.

    Args:
        place: names the storage in messages.
        call: may be made any number of times.

    Raises:
        StorageError: storage has not served for as long as this process waits.
    """
    start = time.monotonic()
    for pause in _pauses():
        try:
            return call()
        except Exception as error:  # every store has its own exceptions
            if not is_passing(error):
                raise
            so_far = time.monotonic() - start
            what = f"{place}: {_describe(error)}"
            if so_far + pause > _Limit.seconds:
                raise StorageError(f"{what}, for {so_far:.0f} s") from error
            logger.warning("%s; waited %.0f s of at most %.0f s", what, so_far, _Limit.seconds)
        _rest(pause)
    raise AssertionError("there is always another pause")


def is_passing(error: BaseException) -> bool:
    """Whether an error says that storage is full or away, and not that the call is wrong."""
    return any(_is_passing(cause) for cause in _causes(error))


def _is_passing(error: BaseException) -> bool:
    if _status(error) in _AWAY_STATUS or isinstance(error, TimeoutError):
        return True
    if isinstance(error, OSError) and error.errno in _FULL | _AWAY:
        return True
    return not _AWAY_NAMES.isdisjoint(kind.__name__ for kind in type(error).__mro__)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _status(error: Any) -> Any:
    """The HTTP status that an exception of a store carries, if any."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        return response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return getattr(error, "status", None) or getattr(error, "code", None)


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in _FULL:
        return "no space is left; free some"
    return f"does not serve: {without_credentials(str(error)) or type(error).__name__}"


def _rest(seconds: float) -> None:
    """Sleep, with a sign of life every second: a long pause is not a unit that hangs."""
    while seconds > 0:
        nap = min(seconds, 1.0)
        time.sleep(nap)
        heartbeat.waited(nap)
        seconds -= nap


def _pauses() -> Iterator[float]:
    """Seconds to wait after each attempt: doubled up to a bound, and spread among processes."""
    pause = FIRST_PAUSE_S
    while True:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311, no secret
        pause = min(pause * 2, LONGEST_PAUSE_S)
