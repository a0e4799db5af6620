r"""The markup of panels, a superset of that of the released StoryDiffusion code.

``[Name]`` names a character, and ``[NC]`` says that the picture has no character. The text after
the last `` #`` is the caption; if it is empty, the panel has none. A backslash before ``#``, ``[``,
``]`` or another backslash makes it a plain sign. The name of a defined character counts without
brackets too, where it means the character and shows it (see `naming`), unless the panel says
``[NC]``.

A panel is parsed once, when its row is accepted; later stages read the `PanelMarkup` of its record.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

from storyreel.stages.errors import InputError
from storyreel.stages.input.names.naming import (
    Place,
    is_inside,
    is_name,
    is_shown,
    is_spaced,
    quoted_spans,
)
from storyreel.stages.output.records import PanelInput, PanelMarkup, TextPart

NO_CHARACTER = "NC"
MAX_NAMES = 20
"""Known names that a message lists."""
_TAG = re.compile(r"\\(?P<plain>[#\[\]\\])|\[(?P<name>[^\[\]\\\n]{1,100})\]")
_CAPTION_MARK = re.compile(r"(?:^|(?<=\s))#")
_SIGN = re.compile(r"([#\[\]\\])")


def markup_of(panel: PanelInput, names: Iterable[str]) -> PanelMarkup:
    """Return the markup of a panel of an accepted story; `names` are the story's characters."""
    # The jobs of version 0.1 contain the text of their panels only.
    return parse_markup(panel.text, names) if panel.markup is None else panel.markup


def caption_of(panel: PanelInput, markup: PanelMarkup) -> str:
    """The caption of a panel: the one stated, else the panel's words; may be empty."""
    stated = markup.caption if panel.caption is None else panel.caption
    return markup.plain if stated is None else stated


def parse_markup(text: str, names: Iterable[str]) -> PanelMarkup:
    """Parse a panel's text.

    Args:
        text: what the user wrote.
        names: the characters that the story defines.

    Raises:
        InputError: a tag names an unknown character, a panel with [NC] names one, or the text has
            no words besides its tags and its caption.
    """
    known = tuple(names)
    body, caption = _split_caption(text)
    parts = _tagged(body)
    no_character = _check_no_character(parts, known)
    parts = [part for part in parts if part.character != NO_CHARACTER]
    if not no_character:
        parts = [piece for part in parts for piece in _with_plain_names(part, known)]
    if not any(part.character or part.text.strip() for part in parts):
        raise InputError("has no words for the picture")
    if caption is not None:
        caption = _reader_text(_tagged(caption))
    return PanelMarkup(parts=tuple(parts), caption=caption, no_character=no_character)


def find_names(words: str, names: Iterable[str]) -> list[TextPart]:
    """Split words without markup at the names that they contain.

    Returns:
        The parts of the words, as `parse_markup` finds them in `escape(words)`.
    """
    # An escaped sign is a part of its own there, so that no name contains one.
    pieces = [TextPart(text=piece) for piece in _SIGN.split(words) if piece]
    return [part for piece in pieces for part in _with_plain_names(piece, tuple(names))]


def escape_unknown_tags(text: str, names: Iterable[str]) -> str:
    """Escape the brackets of prose that hold no known name: `[1]` and `[laughs]` are words."""
    known = {*names, NO_CHARACTER}

    def as_words(found: re.Match[str]) -> str:
        name = found["name"]
        return found[0] if name is None or name.strip() in known else escape(found[0])

    return _TAG.sub(as_words, text)


def says_nobody(text: str) -> bool:
    """True if the text contains the tag [NC]."""
    return any((name or "").strip() == NO_CHARACTER for _, name in _TAG.findall(text))


def escape(text: str) -> str:
    """Escape the signs of markup in plain text; parsing the result gives the text again."""
    return _SIGN.sub(r"\\\1", text)


def escape_caption_marks(text: str) -> str:
    """Escape each `#` of prose, which has tags but no captions, to make it a panel's text."""
    return re.sub(r"\\.|#", lambda found: "\\#" if found[0] == "#" else found[0], text)


def _split_caption(text: str) -> tuple[str, str | None]:
    marks = [found.start() for found in _CAPTION_MARK.finditer(text)]
    if not marks:
        return text.strip(), None
    return text[: marks[-1]].strip(), text[marks[-1] + 1 :].strip()


def _tagged(text: str) -> list[TextPart]:
    parts: list[TextPart] = []
    end = 0
    for found in _TAG.finditer(text):
        parts.append(TextPart(text=text[end : found.start()]))
        end = found.end()
        name = found["name"]
        parts.append(
            TextPart(text=found["plain"])
            if name is None
            else TextPart(text=name, character=name.strip())
        )
    parts.append(TextPart(text=text[end:]))
    return [part for part in parts if part.text]


def _check_known(parts: list[TextPart], known: tuple[str, ...]) -> None:
    allowed = ", ".join(f"[{name}]" for name in (*known[:MAX_NAMES], NO_CHARACTER))
    more = len(known) - MAX_NAMES
    all_known = {*known, NO_CHARACTER}
    for part in parts:
        if part.character is not None and part.character not in all_known:
            raise InputError(
                f"names the unknown character [{part.character}]; known are {allowed}"
                f"{f' and {more} more' if more > 0 else ''}"
                r" (a plain bracket is written \[)"
            )


def _check_no_character(parts: list[TextPart], known: tuple[str, ...]) -> bool:
    """Check the tags of a panel, and return True if one of them is [NC]."""
    _check_known(parts, known)
    tags = {part.character for part in parts if part.character is not None}
    if NO_CHARACTER in tags and len(tags) > 1:
        raise InputError(f"says [NC] (no character) and names {min(tags - {NO_CHARACTER})}")
    return NO_CHARACTER in tags


def _with_plain_names(part: TextPart, known: tuple[str, ...]) -> list[TextPart]:
    if part.character is not None or not known:
        return [part]
    longest_first, names = _names_pattern(known)
    quoted = quoted_spans(part.text)
    pieces: list[TextPart] = []
    end = 0
    for found in names.finditer(part.text):
        assert found.lastindex is not None
        name = longest_first[found.lastindex - 1]
        place = Place(part.text, *found.span())
        if is_inside(quoted, place.start) or not (is_name(place, name) and is_shown(place)):
            continue
        pieces.append(TextPart(text=part.text[end : place.start]))
        pieces.append(TextPart(text=found[0], character=name))
        end = place.end
    return [piece for piece in (*pieces, TextPart(text=part.text[end:])) if piece.text]


@lru_cache(maxsize=8)
def _names_pattern(known: tuple[str, ...]) -> tuple[list[str], re.Pattern[str]]:
    """The names and an expression that matches one of them; a group for each says which."""
    # "Ann Lee" must not be found as "Ann". Scripts without blanks have no ends of words.
    longest_first = sorted(known, key=lambda name: (not is_spaced(name), -len(name)))
    # The rule for both ends stands once: with it in each name, each place would try all names.
    spaced, others = (
        "|".join(f"({re.escape(name)})" for name in longest_first if is_spaced(name) is kind)
        for kind in (True, False)
    )
    pattern = rf"(?<!\w)(?<!\w-)(?:{spaced})(?!\w|-\w)" if spaced else ""
    return longest_first, re.compile("|".join(filter(None, (pattern, others))), re.IGNORECASE)


def _reader_text(parts: list[TextPart]) -> str:
    return PanelMarkup(parts=tuple(parts), caption=None, no_character=False).plain
