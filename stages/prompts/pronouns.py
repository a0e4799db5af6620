"""Finds the characters that the pronouns of a panel stand for, by rules for English.

A pronoun stands for the character mentioned last that agrees with it in gender; a description such
as "a girl in a red coat" tells the gender. "They" stands for the last group that was named
together. Panels that name a character themselves are left as they are.
"""

import dataclasses
import re
from dataclasses import dataclass

from storyreel.stages.input.markup import caption_of, escape, find_names, markup_of
from storyreel.stages.output.records import Character, PanelInput, PanelMarkup, TextPart

_FEMALE = frozenset(
    {"girl", "woman", "lady", "queen", "princess", "mother", "grandmother", "sister", "daughter"}
)
_MALE = frozenset({"boy", "man", "king", "prince", "father", "grandfather", "brother", "son"})
_PRONOUN = re.compile(
    r"(?<!\w)(?P<word>he|him|his|himself|she|her|hers|herself|it|its|itself"
    r"|they|them|their|theirs|themselves)(?!\w)",
    re.IGNORECASE,
)
# The first pronoun outside a quotation, if its form can only be a subject ("it" may be an object,
# so it counts at the beginning alone).
_SUBJECT_PRONOUN = re.compile(
    r"^(?P<before>[^\"\u201c]*?)(?<!\w)(?P<word>he|she|they|(?<!.)it)(?![\w'\u2019])",
    re.IGNORECASE,
)
# The "it" of "it rained" stands for nobody.
_WEATHER = re.compile(
    r"(?<!\w)it(?:'s| is| was| had| has| will|)?(?: been| be| began to| started to| getting)*"
    r" (?:rain|snow|dark|night|late|early|cold|warm|hot|morning|evening|winter|summer|time)\w*",
    re.IGNORECASE,
)


@dataclass(slots=True)
class _Mentions:
    """The characters mentioned so far, the last one first, and the last group named together."""

    recent: list[str]
    group: tuple[str, ...]


def resolve_pronouns(
    panels: tuple[PanelInput, ...], characters: tuple[Character, ...]
) -> tuple[PanelInput, ...]:
    """Name the characters that pronouns stand for, in the panels that name nobody.

    After "[Ann] runs.", "Then she sits." becomes "Then [Ann] sits." and "Her hat flies." becomes
    "[Ann], her hat flies."; captions keep the user's words. If a story has one character and names
    it nowhere, it is in every panel without [NC].

    Raises:
        ValueError: a panel's markup is wrong.
    """
    names = tuple(character.name for character in characters)
    parsed = [markup_of(panel, names) for panel in panels]
    meant: list[tuple[str, ...]]
    if len(names) == 1 and not any(markup.names for markup in parsed):
        meant = [() if markup.no_character else names for markup in parsed]
    else:
        genders = {c.name: _gender(f"{c.name} {c.description}") for c in characters}
        mentions = _Mentions(recent=[], group=())
        meant = [_resolve(markup, mentions, genders) for markup in parsed]
    return tuple(
        _with_tags(panel, markup, those, names) if those else panel
        for panel, markup, those in zip(panels, parsed, meant, strict=True)
    )


def _resolve(markup: PanelMarkup, mentions: _Mentions, genders: dict[str, str]) -> tuple[str, ...]:
    """Return the characters that a panel means without naming them, and update `mentions`."""
    if markup.no_character:
        return ()
    if markup.names:
        mentions.recent = [*reversed(markup.names), *_without(mentions.recent, markup.names)]
        mentions.group = markup.names if len(markup.names) > 1 else mentions.group
        return ()
    spoken = _WEATHER.sub("", _outside_quotations(markup.plain))
    meant = [_antecedents(m["word"].lower(), mentions, genders) for m in _PRONOUN.finditer(spoken)]
    return tuple(dict.fromkeys(name for names in meant for name in names))


def _antecedents(pronoun: str, mentions: _Mentions, genders: dict[str, str]) -> tuple[str, ...]:
    if pronoun.startswith("the"):
        return mentions.group or tuple(mentions.recent[:1])
    gender = {"h": "male", "s": "female", "i": "thing"}[pronoun[0]]
    if pronoun.startswith("her"):
        gender = "female"
    fitting = [name for name in mentions.recent if _agrees(genders[name], gender)]
    return tuple(fitting[:1])


def _agrees(gender: str, asked: str) -> bool:
    return gender in ("unknown", asked)


def _gender(text: str) -> str:
    # The first such word decides: a description may mention others ("a girl with her brother").
    for word in re.findall(r"\w+", text.lower()):
        if word in _FEMALE:
            return "female"
        if word in _MALE:
            return "male"
    return "unknown"


def _without(names: list[str], others: tuple[str, ...]) -> list[str]:
    return [name for name in names if name not in others]


def _outside_quotations(text: str) -> str:
    return re.sub(r"\"[^\"]*\"|\u201c[^\u201d]*\u201d", " ", text)


def _with_tags(
    panel: PanelInput, markup: PanelMarkup, meant: tuple[str, ...], names: tuple[str, ...]
) -> PanelInput:
    """Return the panel with tags for the characters that it means.

    Its text and its markup stay equivalent: the text is what `storyreel storyboard` writes.

    Args:
        panel: a panel that names nobody.
        markup: of the panel.
        meant: the characters that it means, at least one.
        names: all characters of the story.
    """
    before, after = _around_subject(markup.plain, len(meant)) or (
        "",
        _as_continuation(markup.plain),
    )
    tags = [TextPart(text=name, character=name) for name in meant]
    parts = [*find_names(before, names), tags[0]]
    for tag in tags[1:]:
        parts += [TextPart(text=" and "), tag]
    # In lower case the sentence may name one more: "Fox" at its beginning did not match "fox".
    parts += find_names(after, names)
    return dataclasses.replace(
        panel,
        text=f"{escape(before)}{' and '.join(f'[{name}]' for name in meant)}{escape(after)}",
        caption=caption_of(panel, markup),
        markup=PanelMarkup(parts=tuple(parts), caption=None, no_character=False),
    )


def _around_subject(words: str, num_names: int) -> tuple[str, str] | None:
    """Return the words before and after the subject's pronoun, or `None` if there is none."""
    found = _SUBJECT_PRONOUN.match(words)
    if found is None or _PRONOUN.search(found["before"]):
        return None
    if num_names > 1 and found["word"].lower() != "they":
        return None
    return found["before"], words[found.end() :]


def _as_continuation(words: str) -> str:
    """Return a sentence in the form that it has after a name: ", her hat flies."."""
    own_case = re.match(r"I\b", words)
    return f", {words if own_case else words[:1].lower() + words[1:]}"
