"""Repeats calls while storage is full, throttled or unreachable, or refuses our credentials.

Such an error is no fault of the unit that meets it. The call is repeated with exponential back-off
until it succeeds, or until storage has failed for too long. Credentials expire during a night and
are renewed; a process that was not told how long to wait reports a refusal at once.
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

REPORT_S = 60.0
"""Time between two warnings about the same wait, seconds."""

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
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_REFUSED_STATUS = frozenset({401, 402, 403})
_REFUSED_CODES = frozenset(  # of S3, which sends some of them with status 400
    {"ExpiredToken", "InvalidToken", "TokenRefreshRequired", "QuotaExceeded", "RequestExpired"}
)
_REFUSED_NAMES = frozenset(
    {
        "ClientAuthenticationError",  # azure
        "CredentialRetrievalError",  # botocore
        "NoCredentialsError",
        "PartialCredentialsError",
        "TokenRetrievalError",
        "UnauthorizedSSOTokenError",
        "RefreshError",  # google-auth
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
    refused_s = 0.0
    """The same for storage that refuses us: at a terminal, waiting would hide a wrong key."""


def wait_at_most(seconds: float) -> None:
    """Set how long this process waits for storage that fails, or refuses our credentials."""
    _Limit.seconds = _Limit.refused_s = seconds


def patient(make: Callable[[], T], seconds: float) -> T:
    """Call `make` after setting how long this process waits; constructs stages on workers."""
    wait_at_most(seconds)
    return make()


def patiently(place: str, call: Callable[[], T]) -> T:
    """Return the result of `call`, repeated while storage is full, unreachable or refuses us.

    Args:
        place: names the storage in messages.
        call: must be safe to repeat.

    Raises:
        StorageError: storage has failed for as long as this process waits.
    """
    start = time.monotonic()
    reported = -REPORT_S
    for pause in _pauses():
        try:
            return call()
        except Exception as error:  # every store has its own exceptions
            limit = _patience(error)
            if limit is None:
                raise
            so_far = time.monotonic() - start
            what = f"{place}: {_describe(error)}"
            if so_far + pause > limit:
                raise StorageError(f"{what}, for {so_far:.0f} s") from error
            if so_far >= reported + REPORT_S:
                logger.warning("%s; waited %.0f s of at most %.0f s", what, so_far, limit)
                reported = so_far
        _rest(pause, what)
    raise AssertionError("there is always another pause")


def _patience(error: Exception) -> float | None:
    """Return how long to repeat a call that fails so, seconds; `None` if it is a wrong call."""
    if is_refusal(error):
        return _Limit.refused_s
    return _Limit.seconds if is_passing(error) else None


def is_passing(error: BaseException) -> bool:
    """Return True if an error means that storage is full or unreachable, not a wrong call."""
    return any(_is_passing(cause) for cause in _causes(error))


def is_refusal(error: BaseException) -> bool:
    """Return True if storage refuses our credentials, our quota or our permissions."""
    return any(_is_refusal(cause) for cause in _causes(error))


def _is_refusal(error: BaseException) -> bool:
    if isinstance(error, PermissionError) or getattr(error, "errno", None) in _REFUSED:
        return True
    if _status(error) in _REFUSED_STATUS or _code(error) in _REFUSED_CODES:
        return True
    return not _REFUSED_NAMES.isdisjoint(kind.__name__ for kind in type(error).__mro__)


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


def _code(error: Any) -> Any:
    """The error code of S3 in an exception of botocore, or `None`."""
    response = getattr(error, "response", None)
    return response.get("Error", {}).get("Code") if isinstance(response, dict) else None


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in _FULL:
        return "no space is left on it"
    reason = without_credentials(str(error)) or type(error).__name__
    if is_refusal(error):
        return f"refuses access, its credentials or permissions have to be renewed: {reason}"
    return f"does not respond: {reason}"


def _rest(seconds: float, reason: str) -> None:
    """Sleep, with a heartbeat every second: a unit that waits for storage must not look hung."""
    while seconds > 0:
        nap = min(seconds, 1.0)
        time.sleep(nap)
        heartbeat.waited(nap, reason)
        seconds -= nap


def _pauses() -> Iterator[float]:
    """Seconds to wait after each attempt: exponential, bounded, with jitter."""
    pause = FIRST_PAUSE_S
    while True:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311, no secret
        pause = min(pause * 2, LONGEST_PAUSE_S)
