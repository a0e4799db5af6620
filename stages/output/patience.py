"""Repeats calls while storage is full, throttled or unreachable.

Such an error is no fault of the unit that meets it. The call is repeated with exponential back-off
until it succeeds, or until storage has failed for too long.
"""

import errno
import logging
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from storyreel.stages import heartbeat
from storyreel.stages.errors import StorageError
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


class _Limit:
    """The time that this process waits; set once, when its configuration is read."""

    seconds = 3600.0


def wait_at_most(seconds: float) -> None:
    """Set how long this process waits for storage that fails."""
    _Limit.seconds = seconds


def patient(make: Callable[[], T], seconds: float) -> T:
    """Call `make` after setting how long this process waits; constructs stages on workers."""
    wait_at_most(seconds)
    return make()


def patiently(place: str, call: Callable[[], T]) -> T:
    """Return the result of `call`, repeated while storage is full or unreachable.

    Args:
        place: names the storage in messages.
        call: must be safe to repeat.

    Raises:
        StorageError: storage has failed for as long as this process waits.
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
    """Return True if an error means that storage is full or unreachable, not a wrong call."""
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
    """The HTTP status in an exception of a store, or `None`."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        return response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return getattr(error, "status", None) or getattr(error, "code", None)


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in _FULL:
        return "no space is left on it"
    return f"does not respond: {without_credentials(str(error)) or type(error).__name__}"


def _rest(seconds: float) -> None:
    """Sleep, with a heartbeat every second: a unit that waits for storage must not look hung."""
    while seconds > 0:
        nap = min(seconds, 1.0)
        time.sleep(nap)
        heartbeat.waited(nap)
        seconds -= nap


def _pauses() -> Iterator[float]:
    """Seconds to wait after each attempt: exponential, bounded, with jitter."""
    pause = FIRST_PAUSE_S
    while True:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311, no secret
        pause = min(pause * 2, LONGEST_PAUSE_S)
