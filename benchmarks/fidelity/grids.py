"""Pictures side by side, small enough to be kept with the documentation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]

NUM_COLOURS = 256
"""Of a grid's palette, the most that a PNG's may have: what clothes are worn must be seen."""
REFINED = 5000
"""Pixels; k-means betters the palette while a step gives more of them another colour. Without it
small bright pieces of clothing come out in other colours."""
GAP = 3
LABEL_WIDTH = 108
FONT_SIZE = 12
PAPER, INK = "#ffffff", "#202020"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Pictures of one kind, with what they are; without pictures it is a heading."""

    label: str
    pictures: Sequence[Pixels]


def save_grid(path: Path, lines: Sequence[Line], *, side: int) -> None:
    """Write the lines, one below the other, every picture `side` pixels wide and high."""
    columns = max(len(line.pictures) for line in lines)
    heights = [side if line.pictures else 2 * FONT_SIZE for line in lines]
    size = (LABEL_WIDTH + columns * (side + GAP), sum(heights) + GAP * len(lines))
    image = Image.new("RGB", size, PAPER)
    top = 0
    for line, height in zip(lines, heights, strict=True):
        _draw_line(image, line, top, side)
        top += height + GAP
    path.parent.mkdir(parents=True, exist_ok=True)
    image.quantize(NUM_COLOURS, kmeans=REFINED, dither=Image.Dither.NONE).save(path, optimize=True)


def _draw_line(image: Image.Image, line: Line, top: int, side: int) -> None:
    brush, font = ImageDraw.Draw(image), ImageFont.load_default(FONT_SIZE)
    words = line.label.split()
    if not line.pictures:
        brush.text((GAP, top + GAP), line.label, fill=INK, font=font)
        return
    text, width = "", LABEL_WIDTH - 2 * GAP
    for word in words:
        longer = f"{text} {word}".lstrip()
        last = longer.rsplit("\n", 1)[-1]
        text = longer if brush.textlength(last, font=font) <= width else f"{text}\n{word}"
    brush.multiline_text((GAP, top + GAP), text, fill=INK, font=font)
    for place, pixels in enumerate(line.pictures):
        picture = Image.fromarray(pixels).resize((side, side), Image.Resampling.BOX)
        image.paste(picture, (LABEL_WIDTH + place * (side + GAP), top))
