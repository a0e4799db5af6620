"""What the readers of story files share: the rows that they yield, and the limits of one."""

import re
from collections.abc import Mapping
from typing import Any

from storyreel.stages.validation import shorten

MAX_ROW_BYTES = 4 << 20
"""Limit of a row: a line of JSONL, the lines of a CSV record, the values of a Parquet row."""
MAX_FILE_BYTES = 16 << 20
"""Limit of a JSON, YAML or text file, which are read as a whole."""

Row = tuple[int, Mapping[str, Any] | Exception]
"""The number of a row, from 1, and its fields, or the error if it is not valid."""

_INDEX_COLUMN = re.compile(r"__index_level_\d+__|unnamed:_\d+")


def too_long() -> ValueError:
    """The error of a row beyond `MAX_ROW_BYTES`."""
    return ValueError(f"is too long: a row may have {MAX_ROW_BYTES} bytes")


def checked_fields(value: Any) -> Mapping[str, Any] | Exception:
    """The value, if it is a mapping of fields, else an error."""
    if not isinstance(value, Mapping):
        return ValueError(f"{shorten(value)} is not a story: must be a mapping of fields")
    if not all(isinstance(key, str) for key in value):
        return ValueError(f"the keys {shorten(list(value))} must be strings")
    return value


def column_name(header: str) -> str:
    """The field that a table's column stands for: `Story ID ` is `story_id`.

    The row numbers that pandas writes into a column of their own are no field: they have no name.
    """
    name = "_".join(header.split()).lower()
    return "" if _INDEX_COLUMN.fullmatch(name) else name
