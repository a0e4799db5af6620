"""Checks that a row is within the limits of stories, before it is validated field by field."""

from collections.abc import Mapping
from typing import Any

from storyreel.stages.errors import InputError
from storyreel.stages.input.config import InputConfig

MAX_KEYS = 100
"""Keys of a row, a panel or a character; there are a dozen, but an unknown one is an error each."""


def check_shape(row: Mapping[str, Any], limits: InputConfig) -> None:
    """Check the numbers of keys, panels and characters of a row that is not validated yet.

    Raises:
        InputError: names the field, its number, what is allowed and the key that allows it.
    """
    _check_keys("the row", row)
    for field in ("panels", "characters"):
        items = row.get(field)
        if isinstance(items, str):
            check_at_most(field, len(items), "characters", limits, "max_story_chars")
            items = items.splitlines()
        if isinstance(items, list):
            check_at_most(field, len(items), field, limits, f"max_{field}")
            for index, item in enumerate(items):
                _check_keys(f"{field}[{index}]", item)


def check_at_most(field: str, number: int, what: str, limits: InputConfig, key: str) -> None:
    """Check a number against a limit of the configuration.

    Raises:
        InputError: it is larger.
    """
    if number > getattr(limits, key):
        allowed = f"at most {getattr(limits, key)} are allowed (input.{key})"
        raise InputError(f"{field}: {number} {what}: {allowed}")


def _check_keys(place: str, item: Any) -> None:
    if isinstance(item, Mapping) and len(item) > MAX_KEYS:
        raise InputError(f"{place}: {len(item)} keys: at most {MAX_KEYS} are allowed")
