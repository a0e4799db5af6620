"""The characters of each panel: named, meant by a pronoun, or introduced by prose."""

import dataclasses
import re
from collections import Counter
from dataclasses import dataclass

from storyreel.stages.input.markup import escape, find_names, markup_of
from storyreel.stages.output.records import Character, PanelInput, PanelMarkup, TextPart

MAX_FOUND = 4
"""Most characters looked for in prose that defines none."""
_FEMALE = frozenset(
    {"girl", "woman", "lady", "queen", "princess", "mother", "grandmother", "sister", "daughter"}
)
_MALE = frozenset({"boy", "man", "king", "prince", "father", "grandfather", "brother", "son"})
_PRONOUN = re.compile(
    r"(?<!\w)(?P<word>he|him|his|himself|she|her|hers|herself|it|its|itself"
    r"|they|them|their|theirs|themselves)(?!\w)",
    re.IGNORECASE,
)
# A pronoun that is surely a subject, and the first one outside a quotation.
_SUBJECT_PRONOUN = re.compile(
    r"^(?P<before>[^\"\u201c]*?)(?<!\w)(?P<word>he|she|they|(?<!.)it)(?![\w'\u2019])",
    re.IGNORECASE,
)
# "It rained" is nobody.
_WEATHER = re.compile(
    r"(?<!\w)it(?:'s| is| was| had| has| will|)?(?: been| be| began to| started to| getting)*"
    r" (?:rain|snow|dark|night|late|early|cold|warm|hot|morning|evening|winter|summer|time)\w*",
    re.IGNORECASE,
)
_NO_NOUNS = frozenset(
    {"big", "certain", "good", "great", "little", "old", "other", "poor", "same", "small", "young"}
)
_AFTER_NOUNS = frozenset(
    {"and", "as", "at", "for", "from", "in", "of", "on", "or", "that", "to", "who", "whose", "with"}
)
_INTRODUCED = re.compile(r"(?<!\w)[Aa]n?((?: [A-Za-z'-]+){1,3})(?!\w)")
# As a subject: at the start of a sentence or a clause, and doing something.
_ACTS = (
    r"(?:^|[.!?;,:\"\u201c] ?|\b(?:and|but|when|then|so|as) )"
    r"[Tt]he (?i:{noun}),? (?!was |were |is |of )"
)


@dataclass(slots=True)
class _Stage:
    """The characters that were named so far, the latest first, and the last group."""

    recent: list[str]
    group: tuple[str, ...]


def carry_on(
    panels: tuple[PanelInput, ...], characters: tuple[Character, ...]
) -> tuple[PanelInput, ...]:
    """Resolve pronouns in the panels that name nobody.

    After "[Ann] runs.", "Then she sits." becomes "Then [Ann] sits." and "Her hat flies." becomes
    "[Ann], her hat flies."; the captions stay. A story's only character, named nowhere, is in
    every panel but those that say [NC].

    Raises:
        ValueError: a panel's markup is wrong.
    """
    names = tuple(character.name for character in characters)
    parsed = [markup_of(panel, names) for panel in panels]
    if len(names) == 1 and not any(markup.names for markup in parsed):
        meant = [() if markup.no_character else names for markup in parsed]
    else:
        genders = {c.name: _gender(f"{c.name} {c.description}") for c in characters}
        stage = _Stage(recent=[], group=())
        meant = [_meant(markup, stage, genders) for markup in parsed]
    return tuple(
        _named(panel, markup, those, names) if those else panel
        for panel, markup, those in zip(panels, parsed, meant, strict=True)
    )


def find_subjects(text: str) -> tuple[Character, ...]:
    """Subjects that prose introduces with "a" and names as "the" at least twice, once acting.

    "A young fox lived here. ... The fox ran. ... They saw the fox." gives the character "the fox",
    described as "a young fox".
    """
    found: dict[str, Character] = {}
    for introduced in _INTRODUCED.finditer(text):
        readings = (_subject(text, *reading) for reading in _readings(introduced[0]))
        character = next(filter(None, readings), None)
        if character is not None:
            found.setdefault(character.name.casefold(), character)
    return tuple(found.values())[:MAX_FOUND]


def tag_introductions(passage: str, found: tuple[Character, ...]) -> str:
    """Put a found subject's tag where a passage introduces it."""
    for character in found:
        phrase = re.compile(rf"(?<!\w){re.escape(character.description)}(?!\w)", re.IGNORECASE)
        passage = phrase.sub(f"[{character.name}]", passage, count=1)
    return passage


def caption_of(panel: PanelInput, markup: PanelMarkup) -> str:
    """The caption of a panel: the one stated, else the panel's words; may be empty."""
    stated = markup.caption if panel.caption is None else panel.caption
    return markup.plain if stated is None else stated


def _readings(introduction: str) -> list[tuple[list[str], str]]:
    """The phrases that an introduction may be, the shortest first, and the word after each."""
    words = [*introduction.split(), ""]
    end = next((i for i, word in enumerate(words) if word.lower() in _AFTER_NOUNS), len(words) - 1)
    words = words[: end + 1]
    return [(words[:end], words[end]) for end in range(2, len(words))]


def _subject(text: str, phrase: list[str], next_word: str) -> Character | None:
    if phrase[-1].lower() in _NO_NOUNS:
        return None
    # "The young fox" does not name "a young".
    noun = re.escape(phrase[-1]) + (rf"(?! {re.escape(next_word)}\b)" if next_word else "")
    named = re.findall(rf"(?<!\w)[Tt]he ((?i:{noun}))(?!\w)", text)
    if len(named) < 2 or not re.search(_ACTS.format(noun=noun), text, re.MULTILINE):
        return None
    name = Counter(named).most_common(1)[0][0]
    description = " ".join([phrase[0].lower(), *phrase[1:]])
    return Character(name=f"the {name}", description=description, reference_image=None)


def _meant(markup: PanelMarkup, stage: _Stage, genders: dict[str, str]) -> tuple[str, ...]:
    if markup.no_character:
        return ()
    if markup.names:
        stage.recent = [*reversed(markup.names), *_without(stage.recent, markup.names)]
        stage.group = markup.names if len(markup.names) > 1 else stage.group
        return ()
    spoken = _WEATHER.sub("", _outside_quotations(markup.plain))
    meant = [_antecedents(m["word"].lower(), stage, genders) for m in _PRONOUN.finditer(spoken)]
    return tuple(dict.fromkeys(name for names in meant for name in names))


def _antecedents(pronoun: str, stage: _Stage, genders: dict[str, str]) -> tuple[str, ...]:
    if pronoun.startswith("the"):
        return stage.group or tuple(stage.recent[:1])
    gender = {"h": "male", "s": "female", "i": "thing"}[pronoun[0]]
    if pronoun.startswith("her"):
        gender = "female"
    fitting = [name for name in stage.recent if _fits(genders[name], gender)]
    return tuple(fitting[:1])


def _fits(gender: str, asked: str) -> bool:
    return gender in ("unknown", asked)


def _gender(text: str) -> str:
    # A description may name others ("a girl with her brother"): the first word decides.
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


def _named(
    panel: PanelInput, markup: PanelMarkup, meant: tuple[str, ...], names: tuple[str, ...]
) -> PanelInput:
    """The panel with tags for the characters that it means; `names` are all of the story."""
    before, after = _around_subject(markup.plain, len(meant)) or ("", _continued(markup.plain))
    tags = [TextPart(text=name, character=name) for name in meant]
    parts = [*find_names(before, names), tags[0]]
    for tag in tags[1:]:
        parts += [TextPart(text=" and "), tag]
    # The sentence may also name somebody in its new form: a "Fox" at its start was not "fox".
    parts += find_names(after, names)
    return dataclasses.replace(
        panel,
        text=f"{escape(before)}{' and '.join(f'[{name}]' for name in meant)}{escape(after)}",
        caption=caption_of(panel, markup),
        markup=PanelMarkup(parts=tuple(parts), caption=None, no_character=False),
    )


def _around_subject(words: str, num_names: int) -> tuple[str, str] | None:
    """What stands before and after the pronoun that is the subject; `None` if there is none."""
    found = _SUBJECT_PRONOUN.match(words)
    if found is None or _PRONOUN.search(found["before"]):
        return None
    if num_names > 1 and found["word"].lower() != "they":
        return None
    return found["before"], words[found.end() :]


def _continued(words: str) -> str:
    """A sentence as it continues after a name."""
    own_case = re.match(r"I\b", words)
    return f", {words if own_case else words[:1].lower() + words[1:]}"
