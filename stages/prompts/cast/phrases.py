"""Finds the noun phrases of English text: "the old lighthouse keeper", "two mice"."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from storyreel.stages.input.names.lexicon import (
    is_animate,
    is_noun,
    is_plural,
    is_verb,
    singular,
    tag_of,
    word_set,
)
from storyreel.stages.input.names.naming import Place

_DETERMINERS = word_set(
    """
    the a an another this that these those some several many both his her its their my our your
    one two three four five six seven eight nine ten twelve
    """
)
_START = re.compile(rf"(?<![\w'\u2019-])(?:{'|'.join(_DETERMINERS)}) (?=\w)", re.IGNORECASE)
_NEXT = re.compile(r"([^\W_]+(?:-[^\W_]+)*)(?= ?)")
_MAX_WORDS = 6
_INSIDE = frozenset({"very", "most", "once", "certain", "other", "same", "few", "such", "whole"})
_SPEECH = re.compile(
    r"\b(?:said|says|cried|cries|asked|asks|replied|answered|called|shouted|whispered|thought|sang"
    r"|exclaimed|growled|roared|murmured|came|went|sat|lived|stood|was|were) $"
)
_CLAUSE = re.compile(
    r"(?:^|[.!?;:,\"\u201c\u201d\u2014-] ?|\b(?:and|but|when|then|so|as|while|until|once"
    r"|day|that) )$"
)


@dataclass(frozen=True, slots=True)
class Phrase:
    """A noun phrase.

    Attributes:
        place: where it stands.
        determiner: its first word, in lower case.
        words: the words behind that, as they are written.
    """

    place: Place
    determiner: str
    words: tuple[str, ...]

    @property
    def noun(self) -> str:
        """Its noun in lower case, the singular."""
        return singular(self.words[-1].lower())

    @property
    def is_plural(self) -> bool:
        """True for "the mice" and "two mice"."""
        return is_plural(self.words[-1].lower())

    @property
    def is_animate(self) -> bool:
        """True if it means persons or animals."""
        return is_animate(self.noun)

    @property
    def acts(self) -> bool:
        """True if it is the subject of a verb, as far as one can see."""
        before, after = self.place.before, self.place.words_after()
        follows = next((word for word in after if tag_of(word) != "RB"), "")
        if _SPEECH.search(before):
            return True
        begins = not before.strip() or _CLAUSE.search(before.lower()) is not None
        return begins and (is_verb(follows) or not follows)

    def __str__(self) -> str:
        return " ".join([self.determiner, *self.words])


def noun_phrases(text: str, end: int = 0) -> Iterator[Phrase]:
    """Yield the phrases that begin with an article or the like, in order, from `end` on."""
    for start in _START.finditer(text, end):
        if start.start() < end:
            continue
        words = _words(text, start.end())
        if words:
            end = words[-1].end()
            place = Place(text, start.start(), end)
            yield Phrase(place, start[0].strip().lower(), tuple(word[0] for word in words))


def _words(text: str, start: int) -> list[re.Match[str]]:
    """The words of a phrase behind its determiner, up to its noun."""
    found: list[re.Match[str]] = []
    while len(found) <= _MAX_WORDS and (word := _NEXT.match(text, start)) is not None:
        found.append(word)
        start = word.end() + 1
        if text[word.end() : start] != " ":
            break
    words = [word[0] for word in found]
    length = _length(words)
    return found[:length]


def _length(words: list[str]) -> int:
    """How many of the words belong to the phrase."""
    length = 0
    for index, word in enumerate(words):
        following = words[index + 1] if index + 1 < len(words) else ""
        if _ends_before(word, following, has_noun=length > 0):
            break
        if is_noun(word) or (not length and not following and tag_of(word).startswith("JJ")):
            length = index + 1
    return length


def _ends_before(word: str, following: str, *, has_noun: bool) -> bool:
    tag = tag_of(word)
    if is_noun(word):
        # "the fox jumps high" against "the rose bushes grew"
        return has_noun and is_verb(word) and not (following and is_verb(following))
    if has_noun:
        return True
    if tag in ("VBN", "VBG", "VBD"):  # "a sleeping dog"
        return not (following and (is_noun(following) or tag_of(following).startswith("JJ")))
    return not (tag.startswith(("JJ", "CD", "NN")) or word.lower() in _INSIDE)
