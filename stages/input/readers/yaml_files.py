"""Stories in YAML, whose plain words stay as they are written."""

import itertools
import re
from collections.abc import Iterator
from typing import IO, Any

import yaml

from storyreel.stages.input.readers.encodings import read_text
from storyreel.stages.input.readers.rows import Row, checked_fields


class _Loader(yaml.CSafeLoader):
    """Reads words as YAML 1.2 does: `010`, `12:30`, `no` and `2020-01-01` are texts."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?", "-+0123456789."),
    ("merge", r"<<", "<"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first)
    )


def read_yaml(file: IO[bytes]) -> Iterator[Row]:
    """Yield the stories of all documents: each is one, or a list."""
    number = itertools.count(1)
    for document in yaml.load_all(read_text(file), Loader=_Loader):
        if document is None:
            continue
        items: list[Any] = document if isinstance(document, list) else [document]
        for item in items:
            yield next(number), checked_fields(item)
