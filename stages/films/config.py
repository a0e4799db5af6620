"""Settings of films: size, frame rate, encoding, contact sheet."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from storyreel.stages.settings import Settings

EvenPixels = Annotated[int, Field(ge=16, le=8192, multiple_of=2)]
Colour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]


class Fit(StrEnum):
    """How keyframes are fitted into a film of another aspect ratio."""

    PAD = "pad"
    CROP = "crop"


class Preset(StrEnum):
    """The trade of x264 between time and file size."""

    ULTRAFAST = "ultrafast"
    VERYFAST = "veryfast"
    FAST = "fast"
    MEDIUM = "medium"
    SLOW = "slow"
    VERYSLOW = "veryslow"


class SheetConfig(Settings):
    """The contact sheet: every keyframe, and below it frames of the shot that it begins."""

    columns: int = Field(default=4, ge=1, le=12)
    """Keyframes in a row."""
    thumbnail_width: int = Field(default=240, ge=64, le=512)
    """Width of a keyframe, in pixels."""
    frames_per_shot: int = Field(default=4, ge=0, le=8)
    """Frames between two keyframes that are shown."""
    max_keyframes: int = Field(default=64, ge=2, le=256)
    """Of a longer story this many keyframes are shown, evenly chosen, first and last included."""
    font: str | None = None
    """A TrueType or OpenType file for other scripts than Latin, Greek and Cyrillic."""


class FilmsConfig(Settings):
    """The section `films` of a configuration."""

    width: EvenPixels = 512
    """In pixels."""
    height: EvenPixels = 512
    """In pixels."""
    fit: Fit = Fit.PAD
    background: Colour = "#000000"
    """What padding shows, as #rrggbb."""
    fps: int = Field(default=8, ge=8, le=60)
    """Frames per second; every frame is a rendered one."""
    crf: int = Field(default=18, ge=1, le=51)
    """Constant rate factor of x264; lower is better and larger."""
    preset: Preset = Preset.MEDIUM
    encoder_threads: int = Field(default=1, ge=1, le=64)
    """Another number of threads gives other bytes."""
    still_s: float = Field(default=3.0, gt=0, le=600)
    """How long the last keyframe stands where no motion leads to it, in seconds; a story with a
    single keyframe is only that."""
    sheet: SheetConfig = SheetConfig()
