"""The records that cross a boundary: frozen, plain values, each with its Parquet schema.

Pixels are in files; a record contains the path (relative to the output), the size and a checksum.

Records are read across versions of the program. A field with a default may be missing: an older
version did not know it. A field that the class does not have is dropped, with a warning: a newer
version wrote it. Whoever adds a field to a record gives it a default, so that older jobs can still
be read.

Times along a film, with F = 4 frames a clip (keyframes K are shared by neighbouring clips)::

    keyframe_index   K0          K1          K2
    clip frames      0  1  2  3
                              0  1  2  3
    film frames      0  1  2  3  4  5  6
"""

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator

T = TypeVar("T")

STORY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Story ids become file names, so only plain names are allowed; and none with `..`."""
STORY_ID_RULE = "must be 1 to 100 of A-Z a-z 0-9 . _ - without '..', the first a letter or a digit"


def _check_story_id(value: str) -> str:
    # A rejected input row may have no id.
    if value and (STORY_ID.fullmatch(value) is None or ".." in value):
        raise ValueError(STORY_ID_RULE)
    return value


def _check_path(value: str) -> str:
    if (
        value.strip("./") == ""
        or value.startswith("/")
        or "\0" in value
        or ".." in value.split("/")
    ):
        raise ValueError("must be a path inside the output")
    return value


StoryId = Annotated[str, AfterValidator(_check_story_id)]
"""Checked when a record is read: anybody who can write at an output could have made the record."""

OutputPath = Annotated[str, AfterValidator(_check_path)]
"""Path of a file below the output, with `/` between its parts; checked when a record is read."""


class ShotKind(StrEnum):
    """The transition between two neighbouring keyframes in the film."""

    MOTION = "motion"
    CUT = "cut"
    HOLD = "hold"
    DISSOLVE = "dissolve"


@dataclass(frozen=True, slots=True, kw_only=True)
class Character:
    """A recurring subject; the text encoder reads `description` in place of the name."""

    name: str
    description: str
    reference_image: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPart:
    """A piece of a panel's words as written; with `character`, it names that character."""

    text: str
    character: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelMarkup:
    """A panel's text, parsed: its words in order and its caption, `None` if it states none.

    `no_character` means that nobody may be in the picture.
    """

    parts: tuple[TextPart, ...]
    caption: str | None
    no_character: bool

    @property
    def names(self) -> tuple[str, ...]:
        """The named characters, each once, in order."""
        return tuple(dict.fromkeys(part.character for part in self.parts if part.character))

    @property
    def plain(self) -> str:
        """The words as a reader sees them: tags are replaced by names."""
        return " ".join("".join(part.text for part in self.parts).split()).strip(" ,")


@dataclass(frozen=True, slots=True, kw_only=True)
class CharacterBox:
    """Where a character is in a panel: shares of its width and height, from the upper left."""

    character: str
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelInput:
    """A panel as the user wrote it; `text` may contain markup ([Name], [NC], # caption)."""

    text: str
    caption: str | None
    shot: ShotKind
    beats: int | None
    control_image: str | None = None
    """Image that conditions the ControlNet, such as a pose; the same for all beats."""
    markup: PanelMarkup | None = None
    """`text`, parsed when the row was accepted; `None` in the jobs of version 0.1."""
    motion: str | None = None  # what happens on the way to the next panel
    motion_guidance: float | None = None  # of that shot; `None`: the configuration's
    layout: tuple[CharacterBox, ...] = ()
    """Where characters are; of two boxes that overlap the later one is in front."""
    place: str | None = None
    """Where it happens; panels with the same one show the same background."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """An accepted input row: prose in `text` or a written storyboard in `panels`, never both."""

    story_id: StoryId
    source_file: str
    source_row: int
    text: str | None
    panels: tuple[PanelInput, ...]
    characters: tuple[Character, ...]
    style: str
    negative_prompt: str
    seed: int
    duration_s: float | None
    language: str | None = None
    """ISO 639-1 code of its words; `None` if the row states none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A keyframe to render. The beats of a panel share its prompt and differ in their seed."""

    story_id: StoryId
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
    layout: tuple[CharacterBox, ...] = ()
    place: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """The plan from keyframe `shot_index` to the next one; `text` guides the motion."""

    story_id: StoryId
    shot_index: int
    kind: ShotKind
    text: str
    negative_prompt: str
    seed: int
    num_frames: int
    guidance_scale: float | None = None  # `None`: the configuration's


@dataclass(frozen=True, slots=True, kw_only=True)
class Storyboard:
    """The plan of a story: one panel per keyframe, one shot per pair of neighbouring keyframes."""

    story_id: StoryId
    panels: tuple[Panel, ...]
    shots: tuple[Shot, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A published file: `path` is relative to the output, `sha256` is in hexadecimal."""

    path: OutputPath
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyframe:
    """The finished image of a panel, a PNG.

    `degraded`: rendered in smaller batches after the worker ran out of memory, so its bytes may
    differ from those of an undisturbed run.
    """

    story_id: StoryId
    keyframe_index: int
    path: OutputPath
    size: int
    sha256: str
    width: int
    height: int
    seed: int
    degraded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """The rendered frames of a shot, both keyframes included, in one lossless video file.

    Attributes:
        endpoint_closeness: mean absolute difference, in grey levels (0 to 255), between a keyframe
            and the frame that the model generated in its place; the larger of the two ends.
        endpoint_jump: mean absolute difference between a keyframe and the generated frame next to
            it (the larger of the two ends), divided by the median difference between neighbouring
            frames inside the clip. Both are 0 where nothing was generated.
        degraded: as for keyframes.
        flaw: what is wrong with the frames, also after a second attempt; "" if nothing.
    """

    story_id: StoryId
    shot_index: int
    kind: ShotKind
    path: OutputPath
    size: int
    sha256: str
    num_frames: int
    width: int
    height: int
    seed: int
    endpoint_closeness: float
    endpoint_jump: float
    degraded: bool = False
    flaw: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """The video of a whole story with its subtitles and its contact sheet."""

    story_id: StoryId
    path: OutputPath
    size: int
    sha256: str
    subtitles_path: OutputPath
    subtitles_size: int
    subtitles_sha256: str
    sheet_path: OutputPath
    sheet_size: int
    sheet_sha256: str
    num_frames: int
    fps: int
    duration_s: float
    width: int
    height: int
    # The same subtitles as web pages show them; the films of version 0.1 have none.
    web_subtitles_path: OutputPath | None = None
    web_subtitles_size: int | None = None
    web_subtitles_sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a story has no film, or why an input row did not become a story."""

    story_id: StoryId
    stage: str
    unit_id: str
    error_class: str
    message: str
    attempts: int
    worker: str
    source_file: str
    source_row: int


def files_of(record: Any) -> Iterator[File]:
    """Yield the files that a record names: its triples of `path`, `size` and `sha256` fields.

    A triple without values names none.
    """
    names = {field.name for field in dataclasses.fields(record)}
    for name in sorted(names):
        kind = name.removesuffix("path")
        has_triple = kind != name and {f"{kind}size", f"{kind}sha256"} <= names
        if has_triple and getattr(record, name) is not None:
            size, sha256 = getattr(record, f"{kind}size"), getattr(record, f"{kind}sha256")
            yield File(path=getattr(record, name), size=size, sha256=sha256)
