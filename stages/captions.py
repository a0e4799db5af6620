"""Captions as people read them: how they are cut into lines, and how long each has to stand."""

import re
import unicodedata

LINE = 42
"""Letters of a line; a letter of a script that is twice as wide counts as two."""
LINES = 2
LEAST_S = 1.2
"""Shortest time for which a caption stands, in seconds."""
SPEED = 17.0
"""Letters that people read a second."""
_ROUNDING_S = 0.002  # subtitles are timed in milliseconds

_PIECES = re.compile(r"\S+\s*")


def width(text: str) -> int:
    """The width of a text in letters."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide


def split_caption(text: str) -> list[str]:
    """Cut a caption into parts of at most `LINES` lines, which are shown one after the other.

    The parts are about equally long. The lines of each are divided by line ends.
    """
    written = [line.strip() for line in text.splitlines() if line.strip()]
    if len(written) == LINES and all(width(line) <= LINE for line in written):
        return ["\n".join(written)]
    lines = _wrapped(" ".join(written), LINE)
    if len(lines) <= LINES:
        return [_two_lines(" ".join(written))] if lines else []
    count = -(-len(lines) // LINES)
    rest, parts = " ".join(text.split()), []
    for left in range(count, 0, -1):
        part = rest if left == 1 else _beginning(rest, width(rest) // left)
        parts.append(part)
        rest = rest[len(part) :].strip()
    fitting = [_two_lines(part.strip()) for part in parts if part.strip()]
    # What does not fit after all is cut once more.
    return [piece for part in fitting for piece in _cut_lines(part)]


def reading_s(text: str, speed: float = SPEED) -> float:
    """The time that a caption needs, in seconds; 0 if there is none, or if `speed` is 0.

    Args:
        text: the caption.
        speed: letters a second.
    """
    if not speed:
        return 0.0
    parts = split_caption(text)
    return sum(max(LEAST_S, width(part) / speed) + _ROUNDING_S for part in parts)


def _two_lines(text: str) -> str:
    """The text in lines, of about equal length if there are two."""
    lines = _wrapped(text, LINE)
    if len(lines) == LINES:
        for line in range(-(-width(text) // LINES), LINE + 1):
            even = _wrapped(text, line)
            if len(even) == LINES:
                return "\n".join(even)
    return "\n".join(lines)


def _cut_lines(text: str) -> list[str]:
    lines = text.split("\n")
    return ["\n".join(lines[start : start + LINES]) for start in range(0, len(lines), LINES)]


def _wrapped(text: str, line: int) -> list[str]:
    """The text in lines of at most `line` letters, cut at blanks where there are some."""
    lines = [""]
    for piece in _pieces(text, line):
        if lines[-1] and width((lines[-1] + piece).rstrip()) > line:
            lines.append("")
        lines[-1] += piece
    return [text.strip() for text in lines if text.strip()]


def _pieces(text: str, line: int) -> list[str]:
    """The words with the blanks behind them; one that no line can hold in letters."""
    words: list[str] = _PIECES.findall(text.strip())
    return [part for word in words for part in ([word] if width(word) <= line else word)]


def _beginning(text: str, size: int) -> str:
    """The first words of a text, about as wide as `size`; preferably to the end of a clause."""
    pieces, taken = _pieces(text, LINE), ""
    best = ""
    for piece in pieces:
        if taken and width(taken) + width(piece) / 2 > size:
            break
        taken += piece
        if piece.rstrip().endswith((",", ";", ":", ".", "!", "?", "\u3002", "\u3001")):
            best = taken
    return best if width(best) > size * 0.75 else taken
