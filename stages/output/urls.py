"""URLs without the secrets that people put into them."""

import re

_USER = re.compile(r"://[^/\s]*@")
_QUERY = re.compile(r"(://[^\s?]*)\?[^\s'\"]*")


def without_credentials(text: str) -> str:
    """`text` without the user, password and query of the URLs in it."""
    return _QUERY.sub(r"\1", _USER.sub("://", text))


def check_no_credentials(place: str, url: str) -> None:
    """Refuse a URL that would carry a secret into logs, records and the Prefect UI.

    Raises:
        ValueError: `url` holds a user, a password or a query; the message repeats none of them.
    """
    bare = without_credentials(url)
    if bare != url:
        raise ValueError(
            f"{place} {bare}: must hold no user, password or query; give credentials in the"
            " store's own way, such as AWS_PROFILE or a role"
        )
