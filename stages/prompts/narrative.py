"""Takes out of prose what is not told: licences, headings, breaks, and marks of print."""

import re

_FRAME = re.compile(
    r"^\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG[^\n]*\n(?P<told>.*?)"
    r"(?:^\*\*\* ?END OF (?:THE|THIS) PROJECT GUTENBERG|\Z)",
    re.MULTILINE | re.DOTALL,
)
_PRINT = re.compile(
    r"\[(?:Illustration|Footnote|Transcriber)[^\[\]]*\]|\[\d{1,3}\](?!\()", re.IGNORECASE
)
_NOTE = re.compile(r"\[(?:\d{1,3}|\*)\] ")
_EMPHASIS = re.compile(r"(?<!\w)_([^_\n]+)_(?!\w)")
_BREAK = re.compile(r"[*\s#~\u2022\u2014\u2013_=.-]+")
_NUMBER = (
    r"(?:[ivxlc]+|\d+|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|the (?:first"
    r"|last|second|third|fourth|fifth|end))"
)
_HEADING = re.compile(
    rf"(?:(?:chapter|part|book|act|scene|canto|letter) {_NUMBER}\b[.:]?"
    r"(?: \W{1,2} .{1,60}|.{0,40})|prologue|epilogue|the end|preface|contents)[.:]?",
    re.IGNORECASE,
)
_MOST_HEADING_WORDS = 12


def narrative(text: str) -> str:
    """The paragraphs of prose, each on a line, without headings, breaks and what printers add.

    Prose that consists of nothing else stays as it is.
    """
    frame = _FRAME.search(text.replace("\r\n", "\n"))
    if frame is not None:
        text = frame["told"]
    paragraphs = [" ".join(one.split()) for one in re.split(r"\n\s*\n", text)]
    told = [one for one in paragraphs if one and not _is_apart(one)]
    if frame is not None:
        told = [_without_print(one) for one in told if not _NOTE.match(one)]
    return "\n\n".join(filter(None, told)) or text


def _is_apart(paragraph: str) -> bool:
    """True for a break between scenes and for a heading."""
    if _BREAK.fullmatch(paragraph) or _HEADING.fullmatch(paragraph):
        return True
    words = paragraph.split()
    is_capital = paragraph.isupper() and len(words) > 1
    return is_capital and len(words) <= _MOST_HEADING_WORDS and paragraph[-1] not in "!?\"'\u201d"


def _without_print(paragraph: str) -> str:
    plain = _EMPHASIS.sub(r"\1", _PRINT.sub("", paragraph))
    return " ".join(plain.replace("--", "\u2014").split())
