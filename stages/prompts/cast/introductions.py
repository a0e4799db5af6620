"""Finds the characters of prose that defines none: those that act, by their nouns and names.

"A young fox lived by a pond. The fox ran." gives "the fox", a young fox; "a little fox named Rusty"
gives Rusty, a little fox; "Tom was a boy" gives Tom, a boy. These are rules for English; a story
that defines its characters needs none.
"""

import re
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field

from storyreel.stages.input.names.lexicon import (
    gender_of_name,
    is_animate,
    is_verb,
    singular,
    tag_of,
    word_set,
)
from storyreel.stages.input.names.naming import (
    OF_THE_BODY,
    Place,
    is_inside,
    is_shown,
    quoted_spans,
)
from storyreel.stages.output.records import Character
from storyreel.stages.prompts.cast.phrases import Phrase, noun_phrases

MAX_FOUND = 6
"""Limit of the characters found in one story."""
_INDEFINITE = frozenset({"a", "an", "some", "two", "three", "four", "five", "six", "seven", "many"})
_NUMBERS = _INDEFINITE - {"a", "an", "some", "many"}
_NAMED = re.compile(r",? (?:named|called|whose name (?:was|is)) (?P<name>[A-Z]\w+(?: [A-Z]\w+)?)")
_LATER_NAMED = re.compile(r"(?<!\w)(?:His|Her|Its) name (?:was|is) (?P<name>[A-Z]\w+)")
_NAME = re.compile(
    r"(?<![\w'\u2019-])(?:(?:Mr|Mrs|Ms|Dr|Miss)\.? )?[A-Z][\w\u00c0-\u024f]+(?![\w-])"
)
_IS_A = re.compile(r"(?:(?: (?:was|is)|,) (?=an? )|, (?=the ))(?P<what>\w+ .*)", re.DOTALL)
_IN_PLACE = re.compile(r"\b(?:in|at|from|near|to|into|of|on|towards?|the) $", re.IGNORECASE)
_SAID = re.compile(r"\b(?:said|says|cried|asked|replied|answered|called|shouted|whispered) $")
# "like a lion", "as a king", "was a shepherd's son": nobody enters.
_COMPARED = re.compile(r"\b(?:like|as|than|such|of) $", re.IGNORECASE)
_TITLES = re.compile(r"(?:Mr|Mrs|Ms|Dr|Miss)\b")
_NO_NAMES = word_set(
    """
    i monday tuesday wednesday thursday friday saturday sunday january february march april june
    july august september october november december god heaven chapter christmas easter spring
    english french german chinese
    """
)


@dataclass(slots=True)
class _Found:
    """What the text says of one possible character."""

    place: int
    name: str
    description: str = ""
    count: int = 0
    acts: int = 0
    is_animate: bool = True
    spellings: Counter[str] = field(default_factory=Counter)

    @property
    def is_character(self) -> bool:
        """True for persons and animals; a thing has to act, and to be named again and again."""
        if self.is_animate:
            return True
        return self.acts > 0 and self.count > 2 and bool(self.description)


def find_subjects(text: str) -> tuple[Character, ...]:
    """Find the persons, animals and things that act in prose.

    Returns:
        At most `MAX_FOUND` characters, those that are named most, in the order of the text.
    """
    found = [*_with_nouns(text).values(), *_with_names(text).values()]
    characters = [one for one in found if one.is_character]
    characters = sorted(characters, key=lambda one: (-one.count, one.place))[:MAX_FOUND]
    return tuple(
        Character(name=one.name, description=one.description, reference_image=None)
        for one in sorted(characters, key=lambda one: one.place)
    )


def _with_nouns(text: str) -> dict[tuple[str, bool], _Found]:
    """The characters that are called by a noun, such as "the fox"."""
    found: dict[tuple[str, bool], _Found] = {}
    quoted = quoted_spans(text)
    named = _named_phrases(text)
    nouns = {(phrase.noun, phrase.is_plural) for phrase, _ in named.values()}
    for phrase in noun_phrases(text):
        key = phrase.noun, phrase.is_plural
        if key in nouns and phrase.determiner not in _INDEFINITE:
            continue  # "the miller" is Mr. Brown
        if is_inside(quoted, phrase.place.start) or phrase.place.start in named:
            continue
        if phrase.determiner == "another" or not is_shown(phrase.place):
            continue
        if _COMPARED.search(phrase.place.before):
            continue
        _add(found.setdefault(key, _Found(phrase.place.start, "")), phrase)
    for one in found.values():
        one.name = f"the {one.spellings.most_common(1)[0][0]}" if one.spellings else ""
    return {key: one for key, one in found.items() if one.name}


def _add(one: _Found, phrase: Phrase) -> None:
    one.count += 1
    # "A house stood there" introduces a place; "the wind blew" acts.
    one.acts += phrase.acts and (phrase.is_animate or phrase.determiner == "the")
    one.is_animate = phrase.is_animate
    one.spellings[phrase.words[-1].lower()] += 1
    if not one.description and (phrase.determiner in _INDEFINITE or phrase.is_animate):
        one.description = _description(phrase)


def _description(phrase: Phrase) -> str:
    """A phrase as a description: "the Lion" is "a lion", "some Cranes" are "cranes"."""
    words = " ".join(word for word in phrase.words if word.lower() not in ("own", "other"))
    words = words.lower() if is_animate(phrase.noun) else words
    if phrase.determiner in _NUMBERS:
        return f"{phrase.determiner} {words}{_worn(phrase.place)}"
    if phrase.is_plural:
        return f"{words}{_worn(phrase.place)}"
    article = "an" if words[:1] in "aeiou" else "a"
    return f"{article} {words}{_worn(phrase.place)}"


def _worn(place: Place) -> str:
    """The words behind a phrase that describe it further: " in a red coat"."""
    more = re.match(r" (?:in|with|wearing) (?=(?:a|an|his|her|its|the|two) )", place.after)
    if more is None:
        return ""
    worn = next(noun_phrases(place.after[more.end() :]), None)
    if worn is None or worn.place.start or worn.words[-1].lower() not in OF_THE_BODY:
        return ""
    return place.after[: more.end() + worn.place.end]


def _named_phrases(text: str) -> dict[int, tuple[Phrase, str]]:
    """The phrases that are given a name, by their place: "a little fox named Rusty"."""
    named: dict[int, tuple[Phrase, str]] = {}
    for match in _NAME.finditer(text):
        told = _told_phrase(Place(text, *match.span()))
        if told is not None:
            named[told.place.start] = told, match[0]
    animate = [phrase for phrase in noun_phrases(text) if phrase.is_animate]
    for phrase in animate:
        if (found := _NAMED.match(text, phrase.place.end)) is not None:
            named[phrase.place.start] = phrase, found["name"]
    for found in _LATER_NAMED.finditer(text):
        before = bisect_right(animate, found.start(), key=lambda phrase: phrase.place.end)
        if before:
            phrase = animate[before - 1]
            named[phrase.place.start] = phrase, found["name"]
    return named


def _with_names(text: str) -> dict[str, _Found]:
    """The characters that have a name, such as "Rusty" and "Mr. Brown"."""
    descriptions = {name: _description(phrase) for phrase, name in _named_phrases(text).values()}
    found: dict[str, _Found] = {}
    quoted = quoted_spans(text)
    for match in _NAME.finditer(text):
        place = Place(text, *match.span())
        name = match[0]
        if is_inside(quoted, place.start) or not _may_be_name(name, place, descriptions):
            continue
        one = found.setdefault(name, _Found(place.start, name, descriptions.get(name, "")))
        one.count += 1
        one.acts += _name_acts(place)
    known = gender_of_name
    return {
        name: one
        for name, one in found.items()
        if one.description or known(name) or _TITLES.match(name) or (one.acts and one.count > 1)
    }


def _may_be_name(name: str, place: Place, described: dict[str, str]) -> bool:
    if name in described or _TITLES.match(name):
        return True
    if name.lower() in _NO_NAMES or name.isupper() or _IN_PLACE.search(place.before):
        return False
    if is_animate(singular(name.lower())):
        return False  # "Fox" in "the Fox", and "King" in "King Midas"
    tag = tag_of(name)
    common = not tag.startswith("NNP") and tag != "NN" and gender_of_name(name) is None
    begins = not place.before.strip(" \"'\u201c")
    if begins and (common or tag == "NN"):
        return False
    if begins and gender_of_name(name) is not None:
        return _name_acts(place) or tag.startswith("NNP")
    return True


def _name_acts(place: Place) -> bool:
    follows = next((word for word in place.words_after() if tag_of(word) != "RB"), "")
    return is_verb(follows) or follows == "and" or _SAID.search(place.before) is not None


def _told_phrase(place: Place) -> Phrase | None:
    """What the text says directly behind a name: "Tom was a boy", "Tom, a boy,"."""
    found = _IS_A.match(place.text, place.end, place.end + 80)
    if found is None:
        return None
    phrase = next(noun_phrases(place.text[: place.end + 80], found.start("what")), None)
    is_told = phrase is not None and phrase.place.start == found.start("what") and phrase.is_animate
    return phrase if is_told else None
