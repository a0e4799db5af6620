"""Screenplays, in Fountain and as they are usually typed: a panel for each action and each line.

The heading of a scene says where its panels are. Who speaks is seen, and the words are the caption;
a voice from elsewhere (O.S., V.O.) is heard over the picture before.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from storyreel.stages.input.names.markup import escape

_HEADING = re.compile(
    r"^(?:(?:INT|EXT|EST|INT\.?/EXT|I/E)[. ]+|\.(?=[A-Za-z0-9]))(?P<place>.+)$", re.IGNORECASE
)
_TRANSITION = re.compile(r"^(?:>.*|(?:FADE|SMASH|MATCH|JUMP|CUT|DISSOLVE)\b.*[:.]|[A-Z ]+ TO:)$")
_SKIPPED = re.compile(r"^(?:#{1,6} .*|=.*|THE END\.?|~.*)$")
_TITLE_LINE = re.compile(r"^(?P<key>[A-Za-z ]{1,30}):\s*(?P<value>.*)$")
_NOTE = re.compile(r"\[\[[^\[\]]*\]\]|/\*.*?\*/", re.DOTALL)
_CUE = re.compile(
    r"^@?(?P<name>[^\W\d_a-z][^a-z()^]*?|(?<=@)[^()^]+?)\s*(?P<notes>(?:\([^()]*\)\s*)*)\^?$"
)
_VOICE = re.compile(r"\((?:O\.?\s?S\.?|V\.?\s?O\.?|O\.?\s?C\.?)", re.IGNORECASE)
_INTRODUCED = re.compile(r"\b(?P<name>[A-Z][A-Z'-]+(?: [A-Z][A-Z'-]+)*), (?P<what>an? [^,.;]+),? ")
_SENTENCE = re.compile(r"(?<=[.!?]) +(?=[A-Z\"\u201c])")


def is_screenplay(text: str) -> bool:
    """True if a text has headings of scenes as screenplays have them."""
    return bool(re.search(r"^(?:INT|EXT|INT\.?/EXT|I/E)[. ]+\S", text, re.MULTILINE))


def read_screenplay(text: str) -> dict[str, Any]:
    """The fields of the story: its title, its characters and its panels."""
    blocks = [block.strip() for block in re.split(r"\n\s*\n", _NOTE.sub("", text))]
    script = _Script()
    for index, block in enumerate(filter(None, blocks)):
        if index == 0 and _TITLE_LINE.match(block.partition("\n")[0]):
            script.read_title(block)
        else:
            script.read(block.splitlines())
    return script.fields()


@dataclass(slots=True)
class _Script:
    """What has been read of a screenplay."""

    title: str = ""
    place: str = ""
    descriptions: dict[str, str] = field(default_factory=dict)
    panels: list[dict[str, str]] = field(default_factory=list)

    def read_title(self, block: str) -> None:
        for line in block.splitlines():
            found = _TITLE_LINE.match(line)
            if found is not None and found["key"].strip().lower() == "title":
                self.title = found["value"].strip("*_ ")

    def read(self, lines: list[str]) -> None:
        """Read a block: what stands between two empty lines."""
        lines = [line.strip() for line in lines]
        if (heading := _HEADING.match(lines[0])) is not None:
            self.place = ", ".join(re.split(r"\s+[-\u2013]\s+", heading["place"].lower()))
            lines = lines[1:]
        lines = [line for line in lines if not _TRANSITION.match(line) and not _SKIPPED.match(line)]
        cue = _CUE.match(lines[0]) if len(lines) > 1 else None
        if cue is not None:
            self._read_speech(cue["name"], cue["notes"], lines[1:])
        elif lines:
            for sentence in _SENTENCE.split(" ".join(lines).lstrip("!")):
                self._read_action(sentence)

    def fields(self) -> dict[str, Any]:
        """The fields of the story."""
        fields: dict[str, Any] = {
            "title": self.title,
            "panels": [{**panel, "text": self._tagged(panel["text"])} for panel in self.panels],
            "characters": [
                {"name": name, "description": what} for name, what in self.descriptions.items()
            ],
        }
        return {name: value for name, value in fields.items() if value}

    def _read_speech(self, name: str, notes: str, lines: list[str]) -> None:
        speaker = _name(name)
        words = " ".join(line for line in lines if not re.fullmatch(r"\(.*\)", line))
        caption = f"{speaker}: {words}"
        self.descriptions.setdefault(speaker, "")
        if _VOICE.search(notes):
            before = self.panels[-1]["text"] if self.panels else self.place or "a room"
            self.panels.append({"text": before, "caption": caption})
        else:
            self._add(f"{speaker} speaks", caption)

    def _read_action(self, sentence: str) -> None:
        for found in _INTRODUCED.finditer(sentence):
            self.descriptions[_name(found["name"])] = found["what"]
        caption = re.sub(r"\b[A-Z][A-Z'-]+\b", lambda word: self._in_case(word[0]), sentence)
        shown = _INTRODUCED.sub(lambda found: f"{_name(found['name'])} ", sentence)
        shown = re.sub(r"\b[A-Z][A-Z'-]+\b", lambda word: self._in_case(word[0]), shown)
        self._add(shown.rstrip(". "), caption)

    def _in_case(self, word: str) -> str:
        """A word in capitals, as it is usually written: a name, or a sound."""
        return _name(word) if _name(word) in self.descriptions else word.lower()

    def _add(self, words: str, caption: str) -> None:
        if words:
            picture = f"{words}, {self.place}" if self.place else words
            self.panels.append({"text": picture, "caption": caption})

    def _tagged(self, words: str) -> str:
        """The words with a tag for each name, also of those that speak later only."""
        return "".join(_with_tags(escape(words), list(self.descriptions)))


def _name(capitals: str) -> str:
    """A name in capitals, as it is usually written."""
    return " ".join(word[:1] + word[1:].lower() for word in capitals.split())


def _with_tags(words: str, names: list[str]) -> Iterator[str]:
    longest_first = sorted(names, key=len, reverse=True)
    pattern = "|".join(map(re.escape, longest_first))
    end = 0
    for found in re.finditer(rf"(?<!\w)(?:{pattern})(?!\w)", words) if names else ():
        yield words[end : found.start()]
        yield f"[{found[0]}]"
        end = found.end()
    yield words[end:]
