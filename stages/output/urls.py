"""Keeps credentials out of URLs that are logged, recorded and shown."""

import re

from storyreel.stages.errors import InputError

_USER = re.compile(r"://[^/\s]*@")
_QUERY = re.compile(r"(://[^\s?]*)\?[^\s'\"]*")


def without_credentials(text: str) -> str:
    """Return `text` with user, password and query removed from the URLs in it."""
    return _QUERY.sub(r"\1", _USER.sub("://", text))


def check_no_credentials(place: str, url: str) -> None:
    """Reject a URL that would carry a secret into logs, records and the Prefect UI.

    Raises:
        InputError: `url` contains a user, a password or a query; the message repeats none of them.
    """
    bare = without_credentials(url)
    if bare != url:
        raise InputError(
            f"{place} {bare}: must not contain a user, password or query; give credentials in the"
            " store's own way, such as AWS_PROFILE or a role"
        )
