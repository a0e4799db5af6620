"""The records that cross a boundary: frozen, plain values, each with its Parquet schema.

Pixels live in files; a record holds the path (relative to the output), the size and a checksum.

Times along a film, with F = 4 frames a clip (keyframes K are shared by neighbouring clips)::

    keyframe_index   K0          K1          K2
    clip frames      0  1  2  3
                              0  1  2  3
    film frames      0  1  2  3  4  5  6
"""

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache, partial
from typing import Any, TypeVar

import pyarrow as pa

R = TypeVar("R")

STORY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""A story's files carry its id, so it is a plain name; without `..`."""
STORY_ID_RULE = "must be 1 to 100 of A-Z a-z 0-9 . _ - without '..', the first a letter or a digit"


class ShotKind(StrEnum):
    """What joins two neighbouring keyframes in the film."""

    MOTION = "motion"
    CUT = "cut"
    HOLD = "hold"
    DISSOLVE = "dissolve"


@dataclass(frozen=True, slots=True, kw_only=True)
class Character:
    """One recurring subject: `description` is what the text encoder sees in place of the name."""

    name: str
    description: str
    reference_image: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelInput:
    """One panel as the user wrote it; `text` may hold markup ([Name], [NC], # caption)."""

    text: str
    caption: str | None
    shot: ShotKind
    beats: int | None
    control_image: str | None = None
    """A picture that a ControlNet follows, such as a pose; of all beats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One accepted input row: prose in `text`, or a written storyboard in `panels`, never both."""

    story_id: str
    source_file: str
    source_row: int
    text: str | None
    panels: tuple[PanelInput, ...]
    characters: tuple[Character, ...]
    style: str
    negative_prompt: str
    seed: int
    duration_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One keyframe to render. Beats of one panel share its prompt and differ in their seed."""

    story_id: str
    keyframe_index: int
    panel_index: int
    beat: int
    prompt: str
    negative_prompt: str
    caption: str
    characters: tuple[str, ...]
    seed: int
    splitter: str
    warnings: tuple[str, ...]
    control_image: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """The plan from keyframe `shot_index` to the next one; `text` guides the motion."""

    story_id: str
    shot_index: int
    kind: ShotKind
    text: str
    negative_prompt: str
    seed: int
    num_frames: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Storyboard:
    """A story made ready for rendering: one panel per keyframe, one shot per neighbouring pair."""

    story_id: str
    panels: tuple[Panel, ...]
    shots: tuple[Shot, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A published file: `path` is relative to the output, `sha256` is in hexadecimal."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyframe:
    """The finished image of a panel, a PNG.

    A `degraded` one was made with less memory than usual, after there was not enough of it: its
    bytes may differ from those of an undisturbed run.
    """

    story_id: str
    keyframe_index: int
    path: str
    size: int
    sha256: str
    width: int
    height: int
    seed: int
    degraded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """The rendered frames of one shot, both keyframes included, in one lossless video file.

    `endpoint_closeness` is how far, in grey levels, the model's own ends are from the keyframes
    that stand there: the larger of the two mean absolute differences. `endpoint_jump` is the larger
    of those between a keyframe and the generated frame next to it, divided by the median difference
    between neighbouring frames inside the clip. Both are 0 where nothing was generated.
    `degraded` is as for keyframes.
    """

    story_id: str
    shot_index: int
    kind: ShotKind
    path: str
    size: int
    sha256: str
    num_frames: int
    width: int
    height: int
    seed: int
    endpoint_closeness: float
    endpoint_jump: float
    degraded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """The video of a whole story with its subtitles and its contact sheet."""

    story_id: str
    path: str
    size: int
    sha256: str
    subtitles_path: str
    subtitles_size: int
    subtitles_sha256: str
    sheet_path: str
    sheet_size: int
    sheet_sha256: str
    num_frames: int
    fps: int
    duration_s: float
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A story, or an input row that never became one, that gave no film, and why."""

    story_id: str
    stage: str
    unit_id: str
    error_class: str
    message: str
    attempts: int
    worker: str
    source_file: str
    source_row: int


def schema_of(record: type) -> pa.Schema:
    """The Parquet schema of a record class, its fields in order; only an `X | None` may be null."""
    hints = typing.get_type_hints(record)
    return pa.schema([_field(f.name, hints[f.name]) for f in dataclasses.fields(record)])


def _field(name: str, hint: Any) -> pa.Field:
    if isinstance(hint, types.UnionType):
        (inner,) = (arg for arg in hint.__args__ if arg is not type(None))
        return pa.field(name, _arrow_type(inner), nullable=True)
    return pa.field(name, _arrow_type(hint), nullable=False)


def _arrow_type(hint: Any) -> pa.DataType:
    plain = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    if hint in plain:
        return plain[hint]
    if typing.get_origin(hint) is tuple:
        return pa.list_(pa.field("item", _arrow_type(hint.__args__[0]), nullable=False))
    if dataclasses.is_dataclass(hint):
        return pa.struct(list(schema_of(typing.cast(type, hint))))
    assert issubclass(hint, StrEnum), hint
    return pa.string()


def to_row(record: Any) -> dict[str, Any]:
    """A record as a row of plain values."""
    return dataclasses.asdict(record)


def from_row(record: type[R], row: Mapping[str, Any]) -> R:
    """The record that `to_row` turned into `row`.

    Raises:
        ValueError: `row` lacks a field, has an unknown one, or holds a value of the wrong kind.
    """
    readers = _readers(typing.cast(Any, record))
    if not isinstance(row, Mapping) or row.keys() != readers.keys():
        there = str(sorted(map(str, row)) if isinstance(row, Mapping) else type(row).__name__)
        raise ValueError(f"{record.__name__}: fields {there[:500]}, expected {sorted(readers)}")
    return record(**{name: read(row[name]) for name, read in readers.items()})


def files_of(record: Any) -> Iterator[File]:
    """The files that a record names; none if it is of no file."""
    names = {field.name for field in dataclasses.fields(record)}
    for name in sorted(names):
        kind = name.removesuffix("path")
        if kind != name and {f"{kind}size", f"{kind}sha256"} <= names:
            size, sha256 = getattr(record, f"{kind}size"), getattr(record, f"{kind}sha256")
            yield File(path=getattr(record, name), size=size, sha256=sha256)


def check_places(record: Any) -> None:
    """Refuse a record made by others whose names could lead out of an output.

    Raises:
        ValueError: a path is empty, absolute or has a `..`, or a story id is no plain name.
    """
    kind: type = type(record)
    for name, check in _checks(kind):
        check(name, getattr(record, name))


@lru_cache(maxsize=64)
def _checks(record: type) -> tuple[tuple[str, Callable[[str, Any], None]], ...]:
    """What to check of the fields of a record class."""
    checks: list[tuple[str, Callable[[str, Any], None]]] = []
    for name, hint in typing.get_type_hints(record).items():
        if name == "path" or name.endswith("_path"):
            checks.append((name, _check_path))
        elif name == "story_id":
            checks.append((name, _check_story_id))
        elif typing.get_origin(hint) is tuple and dataclasses.is_dataclass(hint.__args__[0]):
            checks.append((name, _check_inner))
    return tuple(checks)


def _check_path(name: str, value: str) -> None:
    if (
        value.strip("./") == ""
        or value.startswith("/")
        or "\0" in value
        or ".." in value.split("/")
    ):
        raise ValueError(f"{name}: {value[:100]!r}: must be a path inside the output")


def _check_story_id(name: str, value: str) -> None:
    # An input row that never became a story may have none.
    if value and (STORY_ID.fullmatch(value) is None or ".." in value):
        raise ValueError(f"{name}: {value[:100]!r}: {STORY_ID_RULE}")


def _check_inner(_name: str, value: tuple[Any, ...]) -> None:
    for inner in value:
        check_places(inner)


@lru_cache(maxsize=64)
def _readers(record: type) -> dict[str, Callable[[Any], Any]]:
    """How each field of a record class is read from a plain value."""
    return {name: _reader(hint) for name, hint in typing.get_type_hints(record).items()}


def _reader(hint: Any) -> Callable[[Any], Any]:
    if isinstance(hint, types.UnionType):
        (inner,) = (arg for arg in hint.__args__ if arg is not type(None))
        return partial(_read_optional, _reader(inner))
    if typing.get_origin(hint) is tuple:
        return partial(_read_tuple, _reader(hint.__args__[0]))
    if dataclasses.is_dataclass(hint):
        return partial(from_row, typing.cast(type, hint))
    if issubclass(hint, StrEnum):
        return typing.cast(Callable[[Any], Any], hint)
    return partial(_read_plain, hint)


def _read_optional(read: Callable[[Any], Any], value: Any) -> Any:
    return None if value is None else read(value)


def _read_tuple(read: Callable[[Any], Any], value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{str(value)[:100]!r} is not a list")
    return tuple(map(read, value))


def _read_plain(kind: type, value: Any) -> Any:
    if type(value) is kind or (kind is float and type(value) is int):
        return value
    raise ValueError(f"{str(value)[:100]!r} is not of type {kind.__name__}")
