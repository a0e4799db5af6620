"""The records that cross a boundary: frozen, plain values, each with its Parquet schema.

Pixels live in files; a record holds the path (relative to the output), the size and a checksum.

Times along a film, with F = 4 frames a clip (keyframes K are shared by neighbouring clips)::

    keyframe_index   K0          K1          K2
    clip frames      0  1  2  3
                              0  1  2  3
    film frames      0  1  2  3  4  5  6
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

import pyarrow as pa

R = TypeVar("R")


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
    """The finished image of a panel, a PNG."""

    story_id: str
    keyframe_index: int
    path: str
    size: int
    sha256: str
    width: int
    height: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """The rendered frames of one shot, both keyframes included, in one lossless video file.

    `endpoint_jump` is the larger of the two mean absolute differences between a keyframe and the
    generated frame next to it, divided by the median difference between neighbouring frames inside
    the clip; 0 where nothing was generated.
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
    endpoint_jump: float


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
    hints = typing.get_type_hints(record)
    if set(row) != set(hints):
        raise ValueError(f"{record.__name__}: fields {sorted(row)}, expected {sorted(hints)}")
    return record(**{name: _value(hint, row[name]) for name, hint in hints.items()})


def _value(hint: Any, value: Any) -> Any:
    if isinstance(hint, types.UnionType):
        (inner,) = (arg for arg in hint.__args__ if arg is not type(None))
        return None if value is None else _value(inner, value)
    if typing.get_origin(hint) is tuple:
        return tuple(_value(hint.__args__[0], item) for item in value)
    if dataclasses.is_dataclass(hint):
        return from_row(typing.cast(type, hint), value)
    if issubclass(hint, StrEnum):
        return hint(value)
    if not isinstance(value, hint | int if hint is float else hint):
        raise ValueError(f"{value!r} is not of type {hint.__name__}")
    return value
