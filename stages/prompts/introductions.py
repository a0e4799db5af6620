"""Finds the characters of prose that defines none: the subjects that it introduces.

A text introduces a subject with "a" ("A young fox lived by a pond.") and names it as "the" later
("The fox ran."). These are rules for English; a story that defines its characters needs none.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import islice

from storyreel.stages.input.markup import says_nobody
from storyreel.stages.output.records import Character

MAX_FOUND = 4
"""Limit of the characters found in one story."""
# A phrase does not end with these: "a young" is not the subject of "a young fox".
_ADJECTIVES = frozenset(
    {"big", "certain", "good", "great", "little", "old", "other", "poor", "same", "small", "young"}
)
# A phrase ends before these: "a fox" in "a fox with a red tail".
_AFTER_PHRASE = frozenset(
    {"and", "as", "at", "for", "from", "in", "of", "on", "or", "that", "to", "who", "whose", "with"}
)
_INTRODUCED = re.compile(r"(?<!\w)[Aa]n?((?: [A-Za-z'-]+){1,3})(?!\w)")
_NAMED = re.compile(r"(?<!\w)[Tt]he (?=(?P<words>[A-Za-z'-]{1,100}))")
# Here "the" begins a sentence or a clause, so that its noun is the subject of the verb.
_CLAUSE = re.compile(
    r"(?:^|[.!?;,:\"\u201c] ?|\b(?:and|but|when|then|so|as) )[Tt]he ", re.MULTILINE
)
_ACTS = re.compile(r",? (?!was |were |is |of )")


def find_subjects(text: str) -> tuple[Character, ...]:
    """Find subjects that prose introduces with "a" and names with "the" at least twice.

    At least once it must be the subject of a verb; a house that is only seen is not a character.
    "A young fox lived here. ... The fox ran. ... They saw the fox." gives the character "the fox"
    with the description "a young fox".

    Returns:
        At most `MAX_FOUND` characters, in the order of the text.
    """
    mentions = _Mentions(text)
    found: dict[str, Character] = {}
    for introduced in _INTRODUCED.finditer(text):
        candidates = _candidate_phrases(introduced[0])
        reading = next((one for one in candidates if mentions.introduces(*one)), None)
        if reading is not None and (noun := reading[0][-1].lower()) not in found:
            found[noun] = mentions.character(*reading)
        if len(found) == MAX_FOUND:
            break
    return tuple(found.values())


def tag_introductions(passage: str, found: tuple[Character, ...]) -> str:
    """Replace the first introduction of each found subject in a passage by its tag.

    A passage with the tag [NC] stays as it is: its picture has no characters.
    """
    if says_nobody(passage):
        return passage
    for character in found:
        phrase = re.compile(rf"(?<!\w){re.escape(character.description)}(?!\w)", re.IGNORECASE)
        passage = phrase.sub(f"[{character.name}]", passage, count=1)
    return passage


class _Mentions:
    """The places of a text that name something with "the", found in one pass.

    The places of one noun are looked at again for each introduction of it, but only until it is
    decided, so that the time does not grow with the square of the text's length.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._named: defaultdict[str, list[int]] = defaultdict(list)
        self._acting: defaultdict[str, list[int]] = defaultdict(list)
        clauses = {found.end() for found in _CLAUSE.finditer(text)}
        for named in _NAMED.finditer(text):
            place, words = named.end(), named["words"]
            # "the fox's" and "the fox-like" name the fox too.
            for end in range(1, len(words) + 1):
                if _ends_word(text, place + end):
                    noun = words[:end].lower()
                    self._named[noun].append(place)
                    if place in clauses and _ACTS.match(text, place + end):
                        self._acting[noun].append(place)

    def introduces(self, phrase: list[str], next_word: str) -> bool:
        """True if a phrase such as "a young fox", before that word, introduces a subject."""
        noun = phrase[-1].lower()
        if noun in _ADJECTIVES or noun not in self._acting:
            return False
        named = self._places(self._named[noun], noun, next_word)
        acting = self._places(self._acting[noun], noun, next_word)
        return len(list(islice(named, 2))) == 2 and any(True for _ in acting)

    def character(self, phrase: list[str], next_word: str) -> Character:
        """The subject that a phrase introduces."""
        noun = phrase[-1].lower()
        places = self._places(self._named[noun], noun, next_word)
        names = Counter(self._text[place : place + len(noun)] for place in places)
        description = " ".join([phrase[0].lower(), *phrase[1:]])
        name = f"the {names.most_common(1)[0][0]}"
        return Character(name=name, description=description, reference_image=None)

    def _places(self, places: list[int], noun: str, next_word: str) -> Iterator[int]:
        """The places where the noun is not followed by the word that followed the introduction.

        "The young fox" does not name the subject of "a young fox" by "young".
        """
        other = re.compile(rf" {re.escape(next_word)}\b", re.IGNORECASE)
        for place in places:
            if not next_word or other.match(self._text, place + len(noun)) is None:
                yield place


def _ends_word(text: str, place: int) -> bool:
    after = text[place : place + 1]
    return not (after.isalnum() or after == "_")


def _candidate_phrases(introduction: str) -> list[tuple[list[str], str]]:
    """Return the phrases that may name the subject, the shortest first, and the word after each."""
    words = [*introduction.split(), ""]
    end = next((i for i, word in enumerate(words) if word.lower() in _AFTER_PHRASE), len(words) - 1)
    words = words[: end + 1]
    return [(words[:end], words[end]) for end in range(2, len(words))]
