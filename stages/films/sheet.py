"""The contact sheet of a film: its keyframes with captions, and frames of each shot.

A cell of the sheet is as wide as a thumbnail::

    +------------------+
    |     keyframe     |
    +----+----+----+---+
    |  frames up to    |
    |  the next one    |
    +----+----+----+---+
    | 3  The caption,  |
    |    wrapped       |
    +------------------+
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from storyreel.stages.films.config import SheetConfig
from storyreel.stages.films.fonts import Fonts

MARGIN = 8
CAPTION_LINES = 3
FONT_SIZE = 14
LINE_HEIGHT = 20
PAPER = "#ffffff"
INK = "#202020"


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetPlan:
    """The frames that a contact sheet shows, and their places.

    `keyframes` are the indices of those shown. `cells` maps the index of a film frame to its cell
    and its place there: 0 is the keyframe itself, 1 and up are the strip of frames below it.
    """

    heading: str
    keyframes: tuple[int, ...]
    captions: tuple[str, ...]
    cells: Mapping[int, tuple[int, int]]


def plan_sheet(
    heading: str, captions: Sequence[str], times: Sequence[int], config: SheetConfig
) -> SheetPlan:
    """Choose the frames for a sheet; `times` are the keyframes' first frames in the film."""
    shown = _evenly(0, len(times) - 1, config.max_keyframes)
    cells = {times[k]: (cell, 0) for cell, k in enumerate(shown)}
    for cell, k in enumerate(shown):
        if k + 1 < len(times):
            between = _evenly(times[k], times[k + 1], config.frames_per_shot + 2)[1:-1]
            cells |= {frame: (cell, place) for place, frame in enumerate(between, start=1)}
    if len(shown) < len(times):
        heading = f"{heading} - {len(shown)} of {len(times)} keyframes"
    return SheetPlan(
        heading=heading,
        keyframes=tuple(shown),
        captions=tuple(captions[k] for k in shown),
        cells=cells,
    )


def _evenly(first: int, last: int, count: int) -> list[int]:
    """At most `count` different integers, evenly spaced from `first` to `last` inclusive."""
    return sorted({round(x) for x in np.linspace(first, last, count)})


class ContactSheet:
    """A picture to which the frames of a film are pasted as thumbnails, in any order."""

    def __init__(
        self,
        plan: SheetPlan,
        *,
        aspect: float,
        font: Fonts,
        config: SheetConfig,
    ) -> None:
        """Draw the heading and the captions; `aspect` is height / width of the frames."""
        self._plan = plan
        self._config = config
        self._font = font
        width = config.thumbnail_width
        self._picture = (width, max(1, round(width * aspect)))
        strip_width = width // max(1, config.frames_per_shot)
        self._strip = (strip_width, max(1, round(strip_width * aspect)))
        self._image = Image.new("RGB", self._size(), PAPER)
        self._write_texts()

    def paste(self, index: int, pixels: np.ndarray) -> None:
        """Paste frame `index` of the film, uint8 (H, W, 3), if the sheet shows it."""
        if index not in self._plan.cells:
            return
        cell, place = self._plan.cells[index]
        left, top = self._corner(cell)
        size = self._picture
        if place:
            size = self._strip
            left, top = left + (place - 1) * size[0], top + self._picture[1] + 2
        picture = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
        self._image.paste(picture, (left, top))

    def save(self, path: Path) -> None:
        """Write the sheet as a PNG."""
        self._image.save(path, format="PNG")

    def _cell(self) -> tuple[int, int]:
        strip = self._strip[1] + 2 if self._config.frames_per_shot else 0
        text = CAPTION_LINES * LINE_HEIGHT
        return self._picture[0] + MARGIN, self._picture[1] + strip + text + MARGIN

    def _size(self) -> tuple[int, int]:
        rows = -(-len(self._plan.keyframes) // self._config.columns)
        width, height = self._cell()
        heading = LINE_HEIGHT + MARGIN
        return self._config.columns * width + MARGIN, rows * height + heading + MARGIN

    def _corner(self, cell: int) -> tuple[int, int]:
        row, column = divmod(cell, self._config.columns)
        width, height = self._cell()
        return MARGIN + column * width, 2 * MARGIN + LINE_HEIGHT + row * height

    def _write_texts(self) -> None:
        draw = ImageDraw.Draw(self._image)
        room = self._image.width - 2 * MARGIN
        heading = wrap(self._plan.heading, self._font, width=room, lines=1)[0]
        self._font.write(draw, (MARGIN, MARGIN), heading, INK)
        for cell, (k, caption) in enumerate(
            zip(self._plan.keyframes, self._plan.captions, strict=True)
        ):
            left, top = self._corner(cell)
            top += self._cell()[1] - MARGIN - CAPTION_LINES * LINE_HEIGHT
            text = f"{k}  {caption}".strip()
            lines = wrap(text, self._font, width=self._picture[0], lines=CAPTION_LINES)
            for number, line in enumerate(lines):
                self._font.write(draw, (left, top + number * LINE_HEIGHT), line, INK)


def wrap(text: str, font: Fonts, *, width: int, lines: int) -> list[str]:
    """Wrap `text` into at most `lines` lines of `width` pixels; a cut text ends in "...".

    Breaks at spaces; breaks words that are longer than a line, as in scripts without spaces.
    """
    rest, wrapped = " ".join(text.split()), [""]
    for number in range(lines):
        taken = _fitting(rest, font, width)
        if taken < len(rest) and number < lines - 1:
            taken = rest.rfind(" ", 1, taken + 1) if " " in rest[1 : taken + 1] else taken
        wrapped[number:] = [rest[:taken].strip()]
        rest = rest[taken:].strip()
        if not rest:
            return wrapped
    return [*wrapped[:-1], _ellipsized(wrapped[-1], font, width)]


def _fitting(text: str, font: Fonts, width: int) -> int:
    """The number of leading characters of `text` that fit, at least one of non-empty text."""
    count = min(1, len(text))
    while count < len(text) and font.getlength(text[: count + 1]) <= width:
        count += 1
    return count


def _ellipsized(line: str, font: Fonts, width: int) -> str:
    while line and font.getlength(f"{line}...") > width:
        line = line[:-1]
    return f"{line.rstrip()}..."
