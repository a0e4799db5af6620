"""Finds whom the words of each panel mean: pronouns, and nouns such as "the boy" for Tom.

A pronoun stands for a character that agrees with it in gender and number: one of the same panel,
else the one that acted last. "They" are those that acted together. A noun stands for the character
whose description it begins, if there is only one. These are rules for English.
"""

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from storyreel.stages.input.names.lexicon import tag_of
from storyreel.stages.input.names.markup import caption_of, escape, markup_of, parse_markup
from storyreel.stages.input.names.naming import is_inside, is_shown, quoted_spans, shows_owner
from storyreel.stages.output.records import Character, PanelInput, PanelMarkup
from storyreel.stages.prompts.cast.members import Member
from storyreel.stages.prompts.cast.phrases import Phrase, noun_phrases

_PRONOUN = re.compile(
    r"(?<![\w-])(?P<word>he|him|his|himself|she|her|hers|herself|it|its|itself"
    r"|they|them|their|theirs|themselves)(?![\w-])",
    re.IGNORECASE,
)
# Of other languages those whose gender and number are plain, and the English ones that they mean.
_MEANINGS = {
    "zh": {
        "\u4ed6\u4eec": "they",
        "\u5979\u4eec": "they",
        "\u4ed6": "he",
        "\u5979": "she",
        "\u5b83": "it",
    },
    "ja": {"\u5f7c\u5973": "she", "\u5f7c\u3089": "they", "\u5f7c": "he"},
    "de": {"er": "he", "ihm": "him", "ihn": "him", "sie": "she"},
    "fr": {"il": "he", "elle": "she", "ils": "they", "elles": "they"},
    "es": {"\u00e9l": "he", "ella": "she", "ellos": "they", "ellas": "they"},
    "it": {"lui": "he", "lei": "she", "loro": "they"},
}
_PRONOUNS = {
    language: re.compile(
        "(?P<word>{})".format("|".join(words))
        if language in ("zh", "ja")
        else r"(?<!\w)(?P<word>{})(?!\w)".format("|".join(words)),
        re.IGNORECASE,
    )
    for language, words in _MEANINGS.items()
}
_NOBODY = re.compile(r"(?!)")
_OBJECTS = frozenset({"him", "them"})
_OWNERS = frozenset({"his", "its", "their"})
# The "it" of "it rained" stands for nobody.
_WEATHER = re.compile(
    r"(?<!\w)it(?:['\u2019]s| is| was| had| has| will|)?"
    r"(?: been| be| began to| started to| getting| became| grew| all| so| too| very| not)*"
    r" (?:rain|snow|dark|night|late|early|cold|warm|hot|morning|evening|winter|summer|time|spring"
    r"|noon|seem|happen|turned out|took|over|true|clear|easy|hard|good|better|said|a |the )\w*",
    re.IGNORECASE,
)
# What stands behind these is where or when something happens.
_BESIDE = re.compile(
    r"\b(?:in|on|at|by|near|from|to|into|onto|under|over|above|behind|beside|through|across|along"
    r"|around|after|before|during|until|towards?|of|for|with|without|one|all|every) $",
    re.IGNORECASE,
)
_OF_THINGS = re.compile(
    r"it(?:['\u2019]s| is| was| had been| broke| fell| lay| tasted| smell\w*| looked| shone"
    r"| belonged| cost| contained| held| led| said)\b",
    re.IGNORECASE,
)
_CLAUSE = re.compile(r"[.!?;:,]|\b(?:and|but|because|when|while|so|that|as|until|who|if)\b")


@dataclass(slots=True)
class _Scene:
    """What the panels so far have shown.

    Attributes:
        members: all characters by name.
        language: of the words; the rules for nouns are for English.
        recent: those that were shown, the last one first; of one panel the subject first.
        group: those that acted together last.
        thing: True if the panel before was about a thing that is no character.
        object: True if a thing that is no character was in it.
    """

    members: dict[str, Member]
    language: str = "en"
    recent: list[str] = field(default_factory=list)
    group: tuple[str, ...] = ()
    thing: bool = False
    object: bool = False

    def show(self, names: list[str]) -> None:
        """Remember the characters of a panel."""
        if len(names) > 1:
            self.group = tuple(names)
        elif names and self.recent and names[0] not in self.group:
            before = self.recent[0]
            one_each = not (self.members[before].is_plural or self.members[names[0]].is_plural)
            if before != names[0] and one_each and not self.group:
                self.group = (before, names[0])
        self.recent = [*names, *(name for name in self.recent if name not in names)]


@dataclass(frozen=True, slots=True)
class _Meant:
    """A place of a panel's words that means characters; its words may be replaced by their tags."""

    start: int
    end: int
    names: tuple[str, ...]
    is_replaced: bool


@dataclass(frozen=True, slots=True)
class Resolved:
    """The panels with tags for whom they mean, and the pronouns that stay open, by panel."""

    panels: tuple[PanelInput, ...]
    open_pronouns: tuple[tuple[int, str], ...]


def resolve_pronouns(
    panels: tuple[PanelInput, ...], characters: tuple[Character, ...]
) -> tuple[PanelInput, ...]:
    """Name the characters that the words of panels stand for; see `resolve`."""
    return resolve(panels, characters).panels


def resolve(
    panels: tuple[PanelInput, ...], characters: tuple[Character, ...], language: str = "en"
) -> Resolved:
    """Name the characters that pronouns and nouns stand for.

    After "[Ann] runs.", "Then she sits." becomes "Then [Ann] sits." and "Her hat flies." becomes
    "[Ann], her hat flies."; captions keep the user's words. If a story has one character and names
    it nowhere, it is in every panel without [NC].

    Raises:
        ValueError: a panel's markup is wrong.
    """
    names = tuple(character.name for character in characters)
    parsed = [markup_of(panel, names) for panel in panels]
    scene = _Scene({one.name: Member.of(one) for one in characters}, language)
    readings = [_Reading(markup, scene) for markup in parsed]
    made, unsure = [], []
    for index, (panel, reading) in enumerate(zip(panels, readings, strict=True)):
        text = reading.read()
        unsure += [(index, word) for word in reading.open_pronouns]
        made.append(panel if text is None else _with_text(panel, parsed[index], text, names))
    lone = len(names) == 1 and not scene.recent
    if lone:
        made = [
            _with_lone(panel, markup, names) for panel, markup in zip(panels, parsed, strict=True)
        ]
    return Resolved(tuple(made), () if lone else tuple(unsure))


def _with_text(
    panel: PanelInput, markup: PanelMarkup, text: str, names: tuple[str, ...]
) -> PanelInput:
    """The panel with another text; its markup follows from that, and the caption stays."""
    return dataclasses.replace(
        panel, text=text, caption=caption_of(panel, markup), markup=parse_markup(text, names)
    )


def _with_lone(panel: PanelInput, markup: PanelMarkup, names: tuple[str, ...]) -> PanelInput:
    """The panel with the only character of the story in front."""
    if markup.no_character:
        return panel
    text = f"[{names[0]}]{escape(_as_continuation(markup.plain))}"
    return _with_text(panel, markup, text, names)


class _Reading:
    """Reads the words of one panel, from left to right."""

    def __init__(self, markup: PanelMarkup, scene: _Scene) -> None:
        self._markup = markup
        self._scene = scene
        self._words = "".join(part.text for part in markup.parts)
        self._there: list[str] = []
        self._things: list[int] = []
        self.open_pronouns: list[str] = []

    def read(self) -> str | None:
        """The panel's text with tags for whom it means; `None` if it names all of them itself."""
        if self._markup.no_character:
            return None
        meant = list(self._meanings())
        self._scene.show(self._there)
        self._scene.thing = not self._there and bool(self._things)
        self._scene.object = bool(self._things)
        named = set(self._markup.names)
        if all(one.names and set(one.names) <= named and not one.is_replaced for one in meant):
            return None
        return self._tagged(meant)

    def _meanings(self) -> Iterator[_Meant]:
        """The places that mean characters, in order."""
        spans = [(start, end) for start, end, _ in self._named()]
        quoted = quoted_spans(self._words)
        weather = [found.span() for found in _WEATHER.finditer(self._words)]
        english = self._scene.language == "en"
        phrases = {one.place.start: one for one in noun_phrases(self._words)} if english else {}
        pattern = _PRONOUN if english else _PRONOUNS.get(self._scene.language, _NOBODY)
        pronouns = {found.start(): found for found in pattern.finditer(self._words)}
        named = {start: (end, name) for start, end, name in self._named()}
        for place in sorted({*phrases, *pronouns, *named}):
            if place in named:
                end, name = named[place]
                self._enter(name)
                yield _Meant(place, end, (name,), is_replaced=False)
            elif is_inside(quoted, place) or is_inside(spans, place):
                continue
            elif place in pronouns:
                if not is_inside(weather, place):
                    yield from self._pronoun(pronouns[place])
                if place in phrases:
                    yield from self._phrase(phrases[place])
            else:
                yield from self._phrase(phrases[place])

    def _named(self) -> Iterator[tuple[int, int, str]]:
        start = 0
        for part in self._markup.parts:
            if part.character is not None:
                yield start, start + len(part.text), part.character
            start += len(part.text)

    def _phrase(self, phrase: Phrase) -> Iterator[_Meant]:
        members = [
            member
            for member in self._scene.members.values()
            if (member.noun, member.is_plural) == (phrase.noun, phrase.is_plural)
        ]
        if not members and not phrase.is_animate and not _BESIDE.search(phrase.place.before):
            self._things.append(phrase.place.start)
        if len(members) != 1 or phrase.determiner == "another":
            return
        (member,) = members
        if member.name in self._there and phrase.determiner in ("a", "an"):
            return  # "a boy" beside Tom is another boy
        if not is_shown(phrase.place):
            return
        # "Mr. Brown, the miller," is one; his second mention keeps its words.
        new = member.name not in self._there
        self._enter(member.name)
        yield _Meant(phrase.place.start, phrase.place.end, (member.name,), is_replaced=new)

    def _pronoun(self, found: re.Match[str]) -> Iterator[_Meant]:
        word = found["word"].lower()
        word = _MEANINGS.get(self._scene.language, {}).get(word, word)
        before, after = self._words[: found.start()], self._words[found.end() :]
        owner = word in _OWNERS or (word == "her" and _begins_noun(after))
        names = self._antecedents(word, before, is_owner=owner)
        if not names:
            if not (word.startswith("it") or owner or word.endswith("s")):
                self.open_pronouns.append(word)
            return
        new = any(name not in self._there for name in names)
        if owner and new and not shows_owner(after):
            return
        plain = re.match(r"['\u2019]", after) is None and not word.endswith(("self", "selves"))
        replaced = new and plain and not owner
        for name in names:
            self._enter(name)
            self._scene.members[name].learn(word)
        yield _Meant(found.start(), found.end(), names, is_replaced=replaced)

    def _antecedents(self, word: str, before: str, *, is_owner: bool) -> tuple[str, ...]:
        members, there = self._scene.members, list(self._there)
        clause = _CLAUSE.split(before)[-1]
        if there and (
            word in _OBJECTS or (word in ("her", "it") and not is_owner and clause.strip())
        ):
            there = there[1:] if len(there) == 1 or members[there[0]].agrees(word) else there
        if word.startswith("the"):
            return self._group(there)
        if word.startswith("it") and self._is_thing(before, self._words[len(before) :]):
            return ()
        # `her` in "saw her" is not the subject of its own clause.
        excluded = set(self._there) - set(there)
        for name in (*there, *self._scene.recent):
            if members[name].agrees(word) and name not in excluded:
                return (name,)
        return ()

    def _group(self, there: list[str]) -> tuple[str, ...]:
        members, scene = self._scene.members, self._scene
        for name in (*there, *scene.recent):
            if members[name].is_plural and name not in set(self._there) - set(there):
                return (name,)
        if len(self._there) > 1:
            return tuple(self._there)
        return tuple(name for name in scene.group if name not in set(self._there) - set(there))

    def _is_thing(self, before: str, rest: str) -> bool:
        """True if "it" means a thing that is no character, of this panel or the one before."""
        if self._things:
            return True
        if before.strip():
            return False
        return self._scene.thing or (self._scene.object and _OF_THINGS.match(rest) is not None)

    def _enter(self, name: str) -> None:
        if name not in self._there:
            self._there.append(name)

    def _tagged(self, meant: list[_Meant]) -> str:
        """The text with tags for nouns and pronouns; whom it has no place for comes first."""
        named = {start for start, _, _ in self._named()}
        pieces: list[str] = []
        tagged: set[str] = set()
        end = 0
        for one in meant:
            if one.is_replaced or one.start in named:
                pieces.append(escape(self._words[end : one.start]))
                pieces.append(" and ".join(f"[{name}]" for name in one.names))
                tagged |= set(one.names)
                end = one.end
        pieces.append(escape(self._words[end:]))
        text = " ".join("".join(pieces).split())
        waiting = [name for name in self._there if name not in tagged]
        if not waiting:
            return text
        return " and ".join(f"[{name}]" for name in waiting) + _as_continuation(text)


def _begins_noun(words: str) -> bool:
    """True if a noun follows: "her hat", not "her a hat" and not "her in the park"."""
    found = re.match(r" ([^\W_]+)", words)
    return found is not None and tag_of(found[1]).startswith(("NN", "JJ", "CD"))


def _as_continuation(words: str) -> str:
    """Return a sentence in the form that it has after a name: ", her hat flies."."""
    own_case = re.match(r"I\b|\[", words)
    return f", {words if own_case else words[:1].lower() + words[1:]}"
