"""Captions drawn into the frames of a film, for viewers whose player shows no subtitles."""

from bisect import bisect_right
from collections.abc import Sequence

from PIL import Image, ImageDraw

from storyreel.stages.films.config import FilmsConfig
from storyreel.stages.films.fonts import Fonts
from storyreel.stages.films.subtitles import Cue

ROOM = 0.92
"""Share of the film's width that a line may take."""
LARGEST = 1 / 16
"""Size of the letters at most, as a share of the film's height."""
SMALLEST = 8
"""Size of the letters at least, pixels."""
LEADING = 1.35
"""Distance of two lines, as a multiple of the size."""
INK, OUTLINE = "#ffffff", "#000000"


class BurnedCaptions:
    """Writes cues into frames, all in one size: the largest in which every line fits."""

    def __init__(self, cues: Sequence[Cue], config: FilmsConfig) -> None:
        """Choose the size.

        Raises:
            ValueError: the configured font cannot be read.
        """
        self._cues = cues
        self._starts = [cue.start_ms for cue in cues]
        self._fps = config.fps
        lines = [line for cue in cues for line in cue.text.splitlines()]
        self._size = max(SMALLEST, int(config.height * LARGEST))
        self._font = Fonts(config.sheet.font, self._size)
        while self._size > SMALLEST and not all(self._fits(line, config.width) for line in lines):
            self._size -= 1
            self._font = Fonts(config.sheet.font, self._size)

    def _fits(self, line: str, width: int) -> bool:
        return self._font.getlength(line) <= ROOM * width

    def write(self, image: Image.Image, index: int) -> None:
        """Write what is said at the frame `index` of the film into that frame."""
        now_ms = 1000 * index / self._fps
        place = bisect_right(self._starts, now_ms) - 1
        if place < 0 or now_ms >= self._cues[place].end_ms:
            return
        draw = ImageDraw.Draw(image)
        lines = self._cues[place].text.splitlines()
        top = image.height - self._size - len(lines) * self._size * LEADING
        for number, line in enumerate(lines):
            left = (image.width - self._font.getlength(line)) / 2
            self._write_line(draw, (left, top + number * self._size * LEADING), line)

    def _write_line(self, draw: ImageDraw.ImageDraw, place: tuple[float, float], line: str) -> None:
        left, top = place
        edge = max(1, self._size // 12)
        around = [(x, y) for x in (-edge, 0, edge) for y in (-edge, 0, edge) if x or y]
        for x, y in around:
            self._font.write(draw, (left + x, top + y), line, OUTLINE)
        self._font.write(draw, place, line, INK)
