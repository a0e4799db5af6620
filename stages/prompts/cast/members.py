"""What is known of a story's characters: noun, number and gender, as their pronouns need them."""

import re
from dataclasses import dataclass

from storyreel.stages.input.names.lexicon import (
    gender_of_name,
    is_animate,
    is_female,
    is_male,
    is_person,
    is_plural,
)
from storyreel.stages.output.records import Character
from storyreel.stages.prompts.cast.phrases import noun_phrases

_WORD = re.compile(r"[^\W\d_]+")
_DETERMINED = re.compile(r"(?:a|an|the|two|three|some|four|five) ", re.IGNORECASE)
_MALE_WORDS = frozenset({"he", "him", "his", "male", "mr"})
_FEMALE_WORDS = frozenset({"she", "her", "hers", "female", "mrs", "ms", "miss"})
# "it" may mean these too.
_NEITHER = frozenset({"robot", "monster", "creature", "ghost", "baby", "alien", "spirit", "child"})


@dataclass(slots=True)
class Member:
    """A character as grammar sees it.

    Attributes:
        name: of the character.
        noun: the noun of its description, in the singular; empty if it has none.
        gender: `male`, `female` or `thing`, and `unknown` until a pronoun tells.
        is_plural: True for "three sons".
        is_person: True for persons, whom "it" does not mean.
    """

    name: str
    noun: str
    gender: str
    is_plural: bool
    is_person: bool

    @classmethod
    def of(cls, character: Character) -> "Member":
        """Read a character's description, and its name where that says nothing."""
        words, plural = _noun_of(character)
        noun = words[-1] if words else ""
        return cls(
            name=character.name,
            noun=noun,
            gender=_gender(character, noun),
            is_plural=plural,
            is_person=is_person(noun) and noun not in _NEITHER,
        )

    def agrees(self, pronoun: str) -> bool:
        """True if a pronoun of the third person may mean this character."""
        if pronoun.startswith("the"):
            return self.is_plural
        if self.is_plural:
            return False
        if pronoun.startswith("it"):
            is_animal = is_animate(self.noun)
            return not self.is_person and (is_animal or self.gender in ("unknown", "thing"))
        return self.gender in ("unknown", _GENDERS[pronoun])

    def learn(self, pronoun: str) -> None:
        """Remember the gender that a pronoun has told."""
        if self.gender == "unknown" and pronoun in _GENDERS:
            self.gender = _GENDERS[pronoun]


_GENDERS = {
    **dict.fromkeys(("he", "him", "his", "himself"), "male"),
    **dict.fromkeys(("she", "her", "hers", "herself"), "female"),
}


def _noun_of(character: Character) -> tuple[list[str], bool]:
    """The words of the description's first phrase, and whether it is a plural."""
    for source in (character.description, character.name):
        text = source.lstrip(" ,.;:-")
        starts = text if _DETERMINED.match(text) else f"a {text}"
        phrase = next(noun_phrases(starts), None)
        if phrase is not None and phrase.place.start == 0:
            words = [*map(str.lower, phrase.words[:-1]), phrase.noun]
            if is_animate(phrase.noun) or source == character.description:
                return words, phrase.is_plural
    return [], is_plural(character.name.lower()) and character.name.lower().startswith("the ")


def _gender(character: Character, noun: str) -> str:
    """The gender, told by the first word that tells one: "a girl with her brother" is a girl."""
    for word in _WORD.findall(f"{noun} {character.description} {character.name}".lower()):
        if word in _FEMALE_WORDS or is_female(word):
            return "female"
        if word in _MALE_WORDS or is_male(word):
            return "male"
    known = next(filter(None, map(gender_of_name, _WORD.findall(character.name))), None)
    return known or ("unknown" if is_animate(noun) or not noun else "thing")
