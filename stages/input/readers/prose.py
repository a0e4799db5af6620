"""Stories in files of text: prose, Markdown, screenplays and subtitles."""

import re
from collections.abc import Iterator
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

from storyreel.stages.errors import InputError
from storyreel.stages.input.readers.screenplays import is_screenplay, read_screenplay

_TIMES = re.compile(r"^\s*[\d:]+[,.]\d{3}\s*-->.*$")
_MARKDOWN = re.compile(r"^(?:#{1,6} \S|!\[[^\]\n]*\]\(|```)", re.MULTILINE)
_FRONT_MATTER = re.compile(r"\A---\n.*?\n(?:---|\.\.\.)\n", re.DOTALL)
_ENDS = (".", "!", "?", "\u2026", '"', "\u201d", "\u3002", ":", ";", ",")


def read_prose(text: str, suffix: str) -> dict[str, Any]:
    """The fields of the story that a file of text contains.

    The suffix says what it is; a `.txt` file is looked at, since all of these are saved so.

    Raises:
        InputError: there is no text.
    """
    if not text.strip():
        raise InputError("contains no text")
    if suffix in (".srt", ".vtt") or (suffix == ".txt" and _is_subtitles(text)):
        return {"text": _read_subtitles(text)}
    if suffix == ".fountain" or (suffix == ".txt" and is_screenplay(text)):
        return read_screenplay(text)
    if suffix in (".md", ".markdown") or (suffix == ".txt" and _MARKDOWN.search(text)):
        return _read_markdown(text)
    return {"text": text}


def _is_subtitles(text: str) -> bool:
    return any(_TIMES.match(line) for line in text.lstrip().splitlines()[:3])


def _read_subtitles(text: str) -> str:
    """A paragraph for each cue, without numbers, times and marks of style."""
    cues: list[str] = []
    for block in re.split(r"\n\s*\n", text):
        lines = block.strip().splitlines()
        times = next((place for place, line in enumerate(lines) if _TIMES.match(line)), None)
        if times is not None:
            spoken = [re.sub(r"<[^<>]*>|\{\\[^{}]*\}", "", line) for line in lines[times + 1 :]]
            cues.append(" ".join(_quoted(line.strip()) for line in spoken))
    return "\n\n".join(filter(None, cues))


def _quoted(line: str) -> str:
    """A line of subtitles; a dash at its beginning stands for one of several speakers."""
    speech = re.fullmatch(r"[-\u2013\u2014]\s*(\S.*)", line)
    return line if speech is None else f'"{speech[1]}"'


def _read_markdown(text: str) -> dict[str, Any]:
    """The paragraphs, items and quotations; the first heading is the title."""
    tokens = MarkdownIt("commonmark").parse(_FRONT_MATTER.sub("", text))
    title: list[str] = []
    told: list[str] = []
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.type != "inline":
            continue
        words = " ".join("".join(_words(token)).split())
        if before is not None and before.type == "heading_open":
            title.append(words)
        elif words:
            told.append(words if words.endswith(_ENDS) else f"{words}.")
    fields: dict[str, Any] = {"text": "\n\n".join(told)}
    return {"title": title[0], **fields} if title else fields


def _words(token: Token) -> Iterator[str]:
    for child in token.children or ():
        if child.type in ("text", "code_inline"):
            yield child.content
        elif child.type in ("softbreak", "hardbreak"):
            yield " "
