"""Fonts of contact sheets: the configured one, and for letters that it lacks one of the system."""

import logging
import subprocess
from functools import lru_cache
from importlib import resources
from itertools import groupby

from PIL import ImageDraw, ImageFont

logger = logging.getLogger(__name__)

_NO_LETTER = "\U0010fffe"  # no font has it, so that it is drawn as the empty box
_FIND_S = 10


class Fonts:
    """A font, and others of the same size for the letters that it has not."""

    def __init__(self, path: str | None, size: int) -> None:
        """Load the font; `None` is Open Sans, which has Latin, Greek and Cyrillic.

        Raises:
            ValueError: `path` is not a TrueType or OpenType font.
        """
        default = resources.files("ttf_opensans") / "ttf" / "OpenSans-Regular.ttf"
        try:
            self._first = ImageFont.truetype(path or str(default), size)
        except OSError as error:
            raise ValueError(
                f"films.sheet.font {path}: cannot be read as a font: {error}"
            ) from error
        self._size = size

    def getlength(self, text: str) -> float:
        """The width of a line of text, in pixels."""
        return sum(font.getlength(run) for font, run in self._runs(text))

    def write(
        self, draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, colour: str
    ) -> None:
        """Write a line of text."""
        left, top = place
        for font, run in self._runs(text):
            draw.text((left, top), run, fill=colour, font=font)
            left += font.getlength(run)

    def _runs(self, text: str) -> list[tuple[ImageFont.FreeTypeFont, str]]:
        """The text in pieces, each with the font that has its letters."""
        letters = [(letter, self._font_of(letter)) for letter in text]
        return [
            (font or self._first, "".join(letter if font else "?" for letter, _ in run))
            for font, run in ((key, list(run)) for key, run in groupby(letters, lambda one: one[1]))
        ]

    def _font_of(self, letter: str) -> ImageFont.FreeTypeFont | None:
        if letter.isspace() or _has(self._first, letter):
            return self._first
        path = _font_with(letter)
        return None if path is None else _loaded(path, self._size)


@lru_cache(maxsize=16)
def _loaded(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


@lru_cache(maxsize=4096)
def _has(font: ImageFont.FreeTypeFont, letter: str) -> bool:
    return bytes(font.getmask(letter)) != bytes(font.getmask(_NO_LETTER))


@lru_cache(maxsize=4096)
def _font_with(letter: str) -> str | None:
    """The file of a font of the system that has a letter, as fontconfig knows it."""
    for path in _fonts_of_block(ord(letter) >> 8, letter):
        if _has(_loaded(path, 16), letter):
            return path
    _warn_of_block(ord(letter) >> 8, letter)
    return None


@lru_cache(maxsize=256)
def _fonts_of_block(_block: int, letter: str) -> list[str]:
    command = ["fc-list", f":charset={ord(letter):x}", "file"]
    try:
        done = subprocess.run(  # noqa: S603, the letter is a number here
            command, capture_output=True, text=True, timeout=_FIND_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return sorted(line.rstrip(": ") for line in done.stdout.splitlines())


@lru_cache(maxsize=256)
def _warn_of_block(_block: int, letter: str) -> None:
    logger.warning(
        "contact sheets: no font of this system has %r; such letters are shown as ?. Install one,"
        " such as fonts-noto-cjk for Chinese and Japanese, or name it in films.sheet.font",
        letter,
    )
