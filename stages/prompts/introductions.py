"""Finds the characters of prose that defines none: the subjects that it introduces.

A text introduces a subject with "a" ("A young fox lived by a pond.") and names it as "the" later
("The fox ran."). These are rules for English; a story that defines its characters needs none.
"""

import re
from collections import Counter

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
# The subject of a verb other than "to be": at the beginning of a sentence or a clause.
_ACTING = (
    r"(?:^|[.!?;,:\"\u201c] ?|\b(?:and|but|when|then|so|as) )"
    r"[Tt]he (?i:{noun}),? (?!was |were |is |of )"
)


def find_subjects(text: str) -> tuple[Character, ...]:
    """Find subjects that prose introduces with "a" and names with "the" at least twice.

    At least once it must be the subject of a verb; a house that is only seen is not a character.
    "A young fox lived here. ... The fox ran. ... They saw the fox." gives the character "the fox"
    with the description "a young fox".

    Returns:
        At most `MAX_FOUND` characters, in the order of the text.
    """
    found: dict[str, Character] = {}
    for introduced in _INTRODUCED.finditer(text):
        candidates = (_character(text, *reading) for reading in _candidate_phrases(introduced[0]))
        character = next(filter(None, candidates), None)
        if character is not None:
            found.setdefault(character.name.casefold(), character)
    return tuple(found.values())[:MAX_FOUND]


def tag_introductions(passage: str, found: tuple[Character, ...]) -> str:
    """Replace the first introduction of each found subject in a passage by its tag."""
    for character in found:
        phrase = re.compile(rf"(?<!\w){re.escape(character.description)}(?!\w)", re.IGNORECASE)
        passage = phrase.sub(f"[{character.name}]", passage, count=1)
    return passage


def _candidate_phrases(introduction: str) -> list[tuple[list[str], str]]:
    """Return the phrases that may name the subject, the shortest first, and the word after each."""
    words = [*introduction.split(), ""]
    end = next((i for i, word in enumerate(words) if word.lower() in _AFTER_PHRASE), len(words) - 1)
    words = words[: end + 1]
    return [(words[:end], words[end]) for end in range(2, len(words))]


def _character(text: str, phrase: list[str], next_word: str) -> Character | None:
    if phrase[-1].lower() in _ADJECTIVES:
        return None
    # "The young fox" does not name the subject of "a young fox" by "young".
    noun = re.escape(phrase[-1]) + (rf"(?! {re.escape(next_word)}\b)" if next_word else "")
    named = re.findall(rf"(?<!\w)[Tt]he ((?i:{noun}))(?!\w)", text)
    if len(named) < 2 or not re.search(_ACTING.format(noun=noun), text, re.MULTILINE):
        return None
    name = Counter(named).most_common(1)[0][0]
    description = " ".join([phrase[0].lower(), *phrase[1:]])
    return Character(name=f"the {name}", description=description, reference_image=None)
