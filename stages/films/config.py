"""Settings of films: size, frame rate, encoding, contact sheet."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from storyreel.stages.settings import Settings

EvenPixels = Annotated[int, Field(ge=16, le=8192, multiple_of=2)]
Colour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]


class Fit(StrEnum):
    """The fit of keyframes into a film of another aspect ratio."""

    PAD = "pad"
    CROP = "crop"


class Preset(StrEnum):
    """Preset of x264; a slower one gives smaller files of the same quality."""

    ULTRAFAST = "ultrafast"
    VERYFAST = "veryfast"
    FAST = "fast"
    MEDIUM = "medium"
    SLOW = "slow"
    VERYSLOW = "veryslow"


class SheetConfig(Settings):
    """The contact sheet: keyframes, and below each of them frames of the shot that follows."""

    columns: int = Field(default=4, ge=1, le=12)
    """Number of keyframes in a row."""
    thumbnail_width: int = Field(default=240, ge=64, le=512)
    """Width of a keyframe, in pixels."""
    frames_per_shot: int = Field(default=4, ge=0, le=8)
    """Number of frames that are shown between two keyframes."""
    max_keyframes: int = Field(default=64, ge=2, le=256)
    """Maximum number of keyframes; of a longer story an even choice with the first and the last."""
    font: str | None = None
    """TrueType or OpenType file; `None` is Open Sans, which has Latin, Greek and Cyrillic. Letters
    that it lacks come from a font of the system that fontconfig knows."""


class FilmsConfig(Settings):
    """The section `films` of a configuration."""

    width: EvenPixels = 512
    """In pixels."""
    height: EvenPixels = 512
    """In pixels."""
    fit: Fit = Fit.PAD
    background: Colour = "#000000"
    """Colour of the padding, as #rrggbb."""
    fps: int = Field(default=8, ge=8, le=60)
    """Frames per second; every frame is a rendered one, unless `motion.fps` is lower."""
    crf: int = Field(default=18, ge=1, le=51)
    """Constant rate factor of x264; lower is better and larger."""
    preset: Preset = Preset.MEDIUM
    encoder_threads: int = Field(default=1, ge=1, le=64)
    """Threads of x264; another number gives other bytes."""
    still_s: float = Field(default=1.5, gt=0, le=600)
    """Time for which the last keyframe stands at the end, in seconds; the film of a story with one
    keyframe."""
    burn_captions: bool = False
    """Draw the captions into the frames, in place of a subtitle track; .srt and .vtt stay."""
    sheet: SheetConfig = SheetConfig()
