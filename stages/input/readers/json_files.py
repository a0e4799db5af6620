"""Stories in JSON: a line for each (JSONL), or a document that contains one or several."""

import json
from collections.abc import Iterator, Mapping
from typing import IO, Any

from storyreel.stages.errors import InputError
from storyreel.stages.input.readers.encodings import check_utf8, open_text, read_text
from storyreel.stages.input.readers.rows import MAX_ROW_BYTES, Row, checked_fields, too_long

_LISTS = ("stories", "rows", "data")
"""Fields in which a document may keep its stories."""


def read_jsonl(file: IO[bytes]) -> Iterator[Row]:
    """Yield the object of each line that is not blank."""
    for number, line in enumerate(_limited_lines(file), start=1):
        if line.strip():
            yield number, _json_object(line)


def read_json(file: IO[bytes]) -> Iterator[Row]:
    """Yield the stories of a document: one object, a list, or a list in one of its fields.

    Raises:
        InputError: the file is too large, or is no JSON.
    """
    text = read_text(file)
    try:
        document = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        if "Extra data" not in str(error):
            raise InputError(f"not JSON: {error}") from None
        # An object in each line, whatever the file is called.
        lines = enumerate(text.splitlines(), start=1)
        yield from ((number, _json_object(line)) for number, line in lines if line.strip())
        return
    yield from enumerate(map(checked_fields, _stories_of(document)), start=1)


def begins_with_object(text: str) -> bool:
    """True if a text is JSON lines: its first line is a whole object."""
    line = text.lstrip().partition("\n")[0]
    return line.startswith("{") and isinstance(_json_object(line), Mapping)


def _stories_of(document: Any) -> list[Any]:
    if isinstance(document, Mapping) and "story_id" not in document:
        for name in _LISTS:
            if isinstance(document.get(name), list):
                return list(document[name])
    return document if isinstance(document, list) else [document]


def _limited_lines(file: IO[bytes]) -> Iterator[str]:
    """The lines; of one that is too long only its beginning, a sign more than is allowed."""
    with open_text(file) as text:
        while line := text.readline(MAX_ROW_BYTES + 1):
            yield line
            while len(line) > MAX_ROW_BYTES and not line.endswith("\n"):
                line = text.readline(MAX_ROW_BYTES + 1)


def _json_object(line: str) -> Mapping[str, Any] | Exception:
    if len(line) > MAX_ROW_BYTES:
        return too_long()
    try:
        check_utf8(line)
        value = json.loads(line, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        return error
    except (ValueError, RecursionError) as error:
        return ValueError(f"not a JSON object: {error}")
    return checked_fields(value)


def _refuse_constant(name: str) -> None:
    # Python's parser would accept NaN and Infinity, which JSON does not have.
    raise InputError(f"{name} is not a JSON number")
