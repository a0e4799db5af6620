"""Says which words of a text are names, and who of the named is in the picture.

`Will walked` names Will, `Will you come?` does not. `Tom ran` shows Tom; `Tom's house was empty`,
`without Tom`, `she thought of Tom` and the words of a quotation do not. These are rules for
English; of other languages only the signs of quotations and the limits of words count.
"""

import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache

from storyreel.stages.input.names.lexicon import is_known_noun, is_noun, is_verb, tag_of, word_set

_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
_SENTENCE_END = re.compile(r"[.!?;:\n]")
_NEXT_WORDS = 3
_LETTERS_BEFORE = 80
"""Letters before a name that say whether it is shown; more of them would take more time."""
QUOTATION = re.compile(r"\"[^\"]*(?:\"|$)|\u201c[^\u201d]*(?:\u201d|$)|\u00ab[^\u00bb]*\u00bb")
"""Words that somebody speaks."""

_MONTHS = frozenset({"april", "may", "june", "august"})
_OTHER_WORDS = _MONTHS | word_set(
    """
    will rose mark bill grace hope faith joy dawn summer autumn jack art sue pat rob bob frank
    ray drew chase hunter lily daisy violet ivy olive ginger robin jay star sky rusty pip bear
    fox dot penny ruby pearl amber iris holly jasmine poppy heather skip buck gene guy josh nick
    wade miles dale glen cliff rich ward cat dog bird max sandy sunny lucky happy duke king
    queen prince a b i an the dee kay tom
    """
)
"""Names that are other words too: in lower case they are no names."""
_BEFORE_MONTH = re.compile(
    r"\b(?:in|of|since|until|till|last|next|this|early|late|mid|every|during|\d+)"
    r"[ -]$",
    re.IGNORECASE,
)
_AFTER_MODAL = word_set(
    """
    you i he she it we they the a an my your his her its our their this that these those there
    not anybody anyone someone somebody nobody
    """
)
_PLACES = word_set(
    """
    street road lane square avenue river lake hill bridge island inn castle mountain valley bay
    station university college county town city church cathedral day
    """
)
_POSSESSIVE = re.compile(r"(?:['\u2019]s\b|(?<=s)['\u2019](?=\s))\s*")
_CONTRACTION = re.compile(
    r"['\u2019]s (?:a|an|the|here|there|not|been|gone|going|so|very|too|just|now|\w+ing)\b"
)
OF_THE_BODY = word_set(
    """
    face head hair eyes eye nose mouth ears ear hand hands finger fingers arm arms leg legs foot
    feet back shoulder shoulders knee knees heart cheek cheeks lips teeth tongue tail paw paws
    fur wing wings beak feathers claws horns mane whiskers beard neck voice smile tears body
    skin hat coat cap cape scarf dress shirt shoes boots gloves crown mask cloak jacket skirt
    belt sleeve pocket pockets glasses kite umbrella basket bag sword lantern stick staff
    balloon lap breath brow chin forehead steps footsteps turn stomach belly side
    """
)
"""What is seen with its owner: parts of the body, clothes, and what is carried."""
_ABSENT_BEFORE = re.compile(
    r"\b(?:"
    r"without(?: [\w']+(?: and| or|,))?|except(?: for)?|instead of|apart from"
    r"|far (?:away )?from|besides|unlike|minus|nor|no|nobody but|not"
    r"|(?:(?:thought|thinks?|thinking|dream(?:s|ed|t|ing)?|sp[eo]aks?|spoke|speaking|talk(?:s|ed|ing)?"
    r"|hears?|heard|hearing|knew|knows?|t[eo]lls?|told|telling|asks?|asked|asking|sang|sings?|singing"
    r"|read|reads|reading|wrote|writes?|writing|learned|worr(?:y|ied|ies)|complain(?:s|ed)?"
    r"|gossip(?:s|ed)?|song|songs|story|stories|tales?|news|words?|memor(?:y|ies)|pictures?"
    r"|portraits?|photo(?:s|graphs?)?|paintings?|drawings?|statues?|letters?|postcards?|gifts?"
    r"|presents?|signs?|traces?|names?|rumou?rs?|book|reminded|afraid|proud|tired)"
    r"(?: [\w']+){0,3}? (?:of|about|from))"
    r"|(?:wait(?:s|ed|ing)?|look(?:s|ed|ing)?|search(?:es|ed|ing)?|long(?:s|ed|ing)?"
    r"|call(?:s|ed|ing)?|wish(?:es|ed|ing)?|cry|cried|letter|present|gift) for"
    r"|(?:w[rn]ote|writes?|writing|letter|sent (?:a \w+|word)) to"
    r"|(?:named|called) (?:after|for)"
    r"|miss(?:es|ed|ing)?|remember(?:s|ed|ing)?|mention(?:s|ed)?|forg[eo]t(?:s|ten)?"
    r"|expect(?:s|ed)?|await(?:s|ed)?|imagin(?:es?|ed)"
    r"|(?:said|says|told \w+|tells \w+|knew|knows|heard|believed|thought|hoped|wished|wondered"
    r"|guessed|dreamed|dreamt|remembered|forgot|asked)"
    r"(?: that| if| whether| where| why| when| how| what)+"
    r"|(?:did not|didn['\u2019]t|could not|couldn['\u2019]t|never|cannot) (?:see|saw|find"
    r"|found|meet|met|hear|notice)"
    r"|(?<![\"\u201d\u00bb] )(?:wondered|hoped|wished|believed|guessed|thought|knew)"
    r") (?:(?:dear|old|poor|little|young|either|both) )?$",
    re.IGNORECASE,
)
_ABSENT_AFTER = re.compile(
    r" (?:(?:was|were|is|are)(?:n['\u2019]t| not| no longer| nowhere) (?:there|here|home|at home|in"
    r"|with|among|to be|around|present|anywhere|coming|back)\b"
    r"|(?:was|were|is|are|had been|has been) (?:gone|missing|absent|away|far away|nowhere|abroad"
    r"|not (?:there|here|home|at home))\b"
    r"|(?:did|does|do|could|would|had|has)(?:n['\u2019]t| not| never) (?:come|appear|appeared"
    r"|arrive|arrived|show|join|joined|return|returned|answer|be|come back)\b"
    r"|never (?:came|appeared|arrived|returned|showed|answered|joined)\b)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a word or phrase in a text."""

    text: str
    start: int
    end: int

    @property
    def before(self) -> str:
        """The last words of the same sentence before it."""
        first = max(0, self.start - _LETTERS_BEFORE)
        ends = list(_SENTENCE_END.finditer(self.text, first, self.start))
        return self.text[ends[-1].end() if ends else first : self.start]

    @property
    def after(self) -> str:
        """The words after it, a few of them."""
        return self.text[self.end : self.end + 80]

    def words_after(self) -> list[str]:
        """The next words of the same clause, at most `_NEXT_WORDS`; none behind a comma."""
        clause = re.split(r"[.,!?;:\"\u201c\u201d()\n]", self.after, maxsplit=1)[0]
        return _WORD.findall(clause)[:_NEXT_WORDS] if clause[:1] in (" ", "") else []


def quoted_spans(text: str) -> list[tuple[int, int]]:
    """The places of what is spoken in a text."""
    return [found.span() for found in QUOTATION.finditer(text)]


def is_inside(spans: list[tuple[int, int]], place: int) -> bool:
    """True if a place lies within one of the spans, which are in order."""
    before = bisect_right(spans, place, key=lambda span: span[0])
    return before > 0 and place < spans[before - 1][1]


def is_name(place: Place, name: str) -> bool:
    """True if a word that is written as a name is meant as one."""
    written = place.text[place.start : place.end]
    lower = name.lower()
    if written != name and (lower in _OTHER_WORDS or _has_determiner(place)):
        return written.isupper() and len(written) > 2
    if lower in _MONTHS and _is_month(place):
        return False
    following = place.words_after()
    if lower in ("will", "may") and following and _is_modal(place, following[0]):
        return False
    if lower in ("a", "i"):
        return bool(following) and is_verb(following[0])
    return not begins_compound(place)


def is_shown(place: Place) -> bool:
    """True if whoever is named at a place is seen there, not only owned, missed or spoken of."""
    after = place.after
    owned = _POSSESSIVE.match(after)
    if owned is not None and _CONTRACTION.match(after) is None:
        return shows_owner(after[owned.end() :])
    if _ABSENT_AFTER.match(after) is not None:
        return False
    return not _makes_absent(place.before)


@lru_cache(maxsize=4096)
def _makes_absent(before: str) -> bool:
    """True if who is named behind these words is missed or spoken of: "without", "thought of"."""
    return _ABSENT_BEFORE.search(before) is not None


def shows_owner(owned: str) -> bool:
    """True if the owner is seen with what begins these words: "hat flew", not "house was empty"."""
    for word in _WORD.findall(owned[:60]):
        if word.lower() in OF_THE_BODY:
            return True
        if is_noun(word) or is_verb(word):
            break
    return False


def begins_compound(place: Place) -> bool:
    """True if the next word goes on with a noun: `Rose` in "Rose bushes", `milk` in "milk jug"."""
    following = place.words_after()
    if not following or not place.after.startswith(" "):
        return False
    first, second = following[0], following[1] if len(following) > 1 else ""
    if first.lower() in _PLACES and first[:1].isupper():
        return True
    if is_verb(first) and not (is_noun(first) and second and is_verb(second)):
        return False
    if not is_known_noun(first) or first[:1].isupper():
        return False
    return (bool(second) and is_verb(second)) or (not second and bool(place.before.strip()))


def _is_modal(place: Place, following: str) -> bool:
    """True in "Will you come?" and "Will Rose come?"."""
    if following.lower() in _AFTER_MODAL:
        return True
    asks = re.match(r"[^.!?]*\?", place.after) is not None
    return asks and following[:1].isupper() and not place.before.strip()


def _is_month(place: Place) -> bool:
    if re.match(r" \d", place.after):
        return True
    # "with May" and "after May" may be persons.
    return _BEFORE_MONTH.search(place.before) is not None


def _has_determiner(place: Place) -> bool:
    words = _WORD.findall(place.before)[-1:]
    return bool(words) and tag_of(words[0]) in ("DT", "PRP$", "JJ", "CD")


def num_unspaced(text: str) -> int:
    """The number of letters of scripts that put no blanks between words."""
    return 0 if text.isascii() else len(_UNSPACED.findall(text))


def is_spaced(text: str) -> bool:
    """False if a text has letters of a script that puts no blanks between words."""
    return _UNSPACED.search(text) is None
