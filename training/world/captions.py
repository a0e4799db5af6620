"""Captions and class indices of a picture."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from storyreel.training.world.records import (
    ACTIONS,
    CHARACTERS,
    PALETTE,
    PLACES,
    TIMES,
    Clip,
    Figure,
    Scene,
)

# Every table: the words that mean the entry; the plain name comes first and is used most.
# No colour of the palette is among them: those are for clothes.
_NOUNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "girl": ("girl", "little girl", "young girl", "schoolgirl"),
        "boy": ("boy", "little boy", "young boy", "schoolboy"),
        "old man": ("old man", "elderly man", "grandfather", "grandpa", "bearded man"),
        "robot": ("robot", "small robot", "friendly robot", "android"),
        "cat": ("cat", "kitty", "little cat", "kitten", "tabby"),
        "bear": ("bear", "big bear", "furry bear", "brown bear", "teddy bear"),
        "rabbit": ("rabbit", "bunny", "little rabbit", "hare"),
        "fox": ("fox", "little fox", "clever fox", "sly fox"),
        "penguin": ("penguin", "little penguin", "small penguin", "cheerful penguin"),
        "dog": ("dog", "puppy", "little dog", "friendly dog", "hound"),
    }
)
# base, third person, progressive, past
_VERBS: Mapping[str, tuple[tuple[str, str, str, str], ...]] = MappingProxyType(
    {
        "walking": (
            ("walk", "walks", "walking", "walked"),
            ("stroll", "strolls", "strolling", "strolled"),
            ("take a walk", "takes a walk", "taking a walk", "took a walk"),
            ("wander", "wanders", "wandering", "wandered"),
            ("go for a walk", "goes for a walk", "going for a walk", "went for a walk"),
        ),
        "running": (
            ("run", "runs", "running", "ran"),
            ("race", "races", "racing", "raced"),
            ("sprint", "sprints", "sprinting", "sprinted"),
            ("rush", "rushes", "rushing", "rushed"),
            ("hurry along", "hurries along", "hurrying along", "hurried along"),
        ),
        "jumping": (
            ("jump", "jumps", "jumping", "jumped"),
            ("leap", "leaps", "leaping", "leapt"),
            ("hop", "hops", "hopping", "hopped"),
            ("jump for joy", "jumps for joy", "jumping for joy", "jumped for joy"),
        ),
        "waving": (
            ("wave", "waves", "waving", "waved"),
            ("wave hello", "waves hello", "waving hello", "waved hello"),
            ("wave a hand", "waves a hand", "waving a hand", "waved a hand"),
            ("wave goodbye", "waves goodbye", "waving goodbye", "waved goodbye"),
            ("say hello", "says hello", "saying hello", "said hello"),
        ),
        "dancing": (
            ("dance", "dances", "dancing", "danced"),
            ("dance to music", "dances to music", "dancing to music", "danced to music"),
        ),
        "sitting": (
            ("sit", "sits", "sitting", "sat"),
            ("sit down", "sits down", "sitting down", "sat down"),
            ("sit on a stool", "sits on a stool", "sitting on a stool", "sat on a stool"),
            ("take a seat", "takes a seat", "taking a seat", "took a seat"),
        ),
        "sleeping": (
            ("sleep", "sleeps", "sleeping", "slept"),
            ("take a nap", "takes a nap", "taking a nap", "took a nap"),
            ("nap", "naps", "napping", "napped"),
            ("lie asleep", "lies asleep", "lying asleep", "lay asleep"),
            ("fall asleep", "falls asleep", "falling asleep", "fell asleep"),
        ),
        "reading": (
            ("read", "reads", "reading", "read"),
            ("read a book", "reads a book", "reading a book", "read a book"),
            ("look at a book", "looks at a book", "looking at a book", "looked at a book"),
            ("read a story", "reads a story", "reading a story", "read a story"),
        ),
        "eating": (
            ("eat", "eats", "eating", "ate"),
            ("eat a melon", "eats a melon", "eating a melon", "ate a melon"),
            (
                "eat a slice of watermelon", "eats a slice of watermelon",
                "eating a slice of watermelon", "ate a slice of watermelon",
            ),
            ("have a snack", "has a snack", "having a snack", "had a snack"),
            ("have lunch", "has lunch", "having lunch", "had lunch"),
        ),
        "flying a kite": (
            ("fly a kite", "flies a kite", "flying a kite", "flew a kite"),
            ("play with a kite", "plays with a kite", "playing with a kite", "played with a kite"),
            ("hold a kite", "holds a kite", "holding a kite", "held a kite"),
        ),
    }
)  # fmt: skip
_WHERE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "park": ("in the park", "in a park", "in the meadow", "at the park"),
        "beach": ("on the beach", "at the beach", "by the sea", "at the seaside", "on the shore"),
        "forest": ("in the forest", "in a forest", "in the woods", "among the tall trees"),
        "city street": (
            "on the street", "in the city", "on a city street", "in town", "along the street",
        ),
        "kitchen": ("in the kitchen", "in a kitchen", "in a cosy kitchen"),
        "bedroom": ("in the bedroom", "in a bedroom", "in a cosy bedroom"),
        "snowy mountain": (
            "on the snowy mountain", "on a snowy mountain", "in the snow", "in the mountains",
        ),
        "castle garden": (
            "in the castle garden", "in a castle garden", "near the castle", "outside the castle",
        ),
        "library": ("in the library", "in a library", "in an old library", "among the bookshelves"),
        "desert": ("in the desert", "in a desert", "on the dunes", "among the cactuses"),
    }
)  # fmt: skip
_WHEN: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "day": ("", "", "during the day", "in the morning", "on a sunny day", "by day"),
        "sunset": ("at sunset", "in the evening", "at dusk", "as the sun sets"),
        "night": ("at night", "at night", "under the stars", "in the moonlight", "by night"),
    }
)
_ADVERBS = ("happily", "quietly", "cheerfully", "merrily", "gently", "calmly")
_TOPS = ("coat", "coat", "jacket", "shirt")
_HATTED = ("girl", "boy", "old man", "robot")
_SUBJECT_PRONOUNS: Mapping[str, str] = MappingProxyType(
    {"girl": "she", "boy": "he", "old man": "he"}
)
_PRONOUNS: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {"she": ("her", "her", "herself"), "he": ("his", "him", "himself"),
     "it": ("its", "it", "itself")}
)  # fmt: skip
"""Possessive, object, reflexive."""
_BESIDE = ("beside", "next to", "near")
_NAMED = 0.85  # share of captions that say that somebody is there twice


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """One plain English sentence that fits `scene`; clothes are left open in about two of three.

    A twin, a mirror or a portrait is named in 85 % of captions; what a portrait shows, seldom."""
    where, when = _place_words(scene, rng)
    if not scene.figures:
        return _empty(scene, when, rng)
    return _ordered(_clause(scene, rng) + _image_words(scene, rng), where, when, rng)


def clip_caption(clip: Clip, rng: np.random.Generator) -> str:
    """The caption of a clip: of its scene inside one place, of its two ends otherwise."""
    first, last = clip.scenes[0], clip.scenes[-1]
    if clip.mixes[-1] == 0.0:
        return caption(first, rng)
    where, when = _place_words(last, rng)
    plural = len(last.figures) == 2
    verb = _verb(last.figures[0].action, rng)[0 if plural else 1]
    pronoun = "they" if plural else _pronoun(last.figures[0])
    return f"{caption(first, rng)}, then {pronoun} {verb} {where} {when}".rstrip()


def describe(scene: Scene) -> dict[str, int]:
    """Class indices of the first figure and its surroundings; -1 where there is nobody."""
    return {
        **_described(scene.figures[:1]),
        "place": PLACES.index(scene.place),
        "time": TIMES.index(scene.time_of_day),
        "count": len(scene.figures),
    }


def _described(figures: Sequence[Figure]) -> dict[str, int]:
    if not figures:
        return dict.fromkeys(("character", "action", "top", "bottom", "hat"), -1)
    (figure,) = figures
    colours = tuple(PALETTE)
    return {
        "character": CHARACTERS.index(figure.character),
        "action": ACTIONS.index(figure.action),
        "top": colours.index(figure.outfit.top),
        "bottom": colours.index(figure.outfit.bottom),
        "hat": colours.index(figure.outfit.hat),
    }


def _pick(rng: np.random.Generator, words: Sequence[str]) -> str:
    """One of `words`, most often the plain first one."""
    return words[0] if rng.random() < 0.4 else words[int(rng.integers(len(words)))]


def _verb(action: str, rng: np.random.Generator) -> tuple[str, str, str, str]:
    verbs = _VERBS[action]
    return verbs[0] if rng.random() < 0.4 else verbs[int(rng.integers(len(verbs)))]


def _place_words(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    return _pick(rng, _WHERE[scene.place]), _pick(rng, _WHEN[scene.time_of_day])


def _empty(scene: Scene, when: str, rng: np.random.Generator) -> str:
    opening = _pick(rng, ("an empty", "a picture of an empty", "a view of an empty", "a quiet"))
    return f"{opening} {scene.place} {when}".rstrip()


def _clause(scene: Scene, rng: np.random.Generator) -> str:
    """A clause of subject and action in one of three tenses."""
    first = scene.figures[0]
    if len(scene.figures) == 1:
        return f"{_subject(first, rng)} {_predicate(first.action, rng, plural=False)}"
    other = scene.figures[1]
    if first.character == other.character:
        return _twins(first, other, rng)
    return _together((first, _subject(first, rng)), (other, _subject(other, rng)), rng)


def _together(one: tuple[Figure, str], two: tuple[Figure, str], rng: np.random.Generator) -> str:
    """The joint action of two figures with the given subjects."""
    (first, first_name), (second, second_name) = one, two
    if first.action == second.action:
        pair = f"{first_name} and {second_name}"
        return f"{pair} {_predicate(first.action, rng, plural=True)}"
    link = _pick(rng, ("and", "while"))
    start = f"{first_name} {_predicate(first.action, rng, plural=False)}"
    return f"{start} {link} {second_name} {_predicate(second.action, rng, plural=False)}"


def _twins(first: Figure, other: Figure, rng: np.random.Generator) -> str:
    if rng.random() > _NAMED:
        return f"{_subject(first, rng)} {_predicate(first.action, rng, plural=False)}"
    if first.action == other.action and rng.random() < 0.5:
        several = _plural(_pick(rng, _NOUNS[first.character]))
        kind = _pick(rng, ("two identical {}", "twin {}", "the twin {}", "two {}", "two twin {}"))
        return f"{kind.format(several)} {_predicate(first.action, rng, plural=True)}"
    twin = f"{_PRONOUNS[_pronoun(first)][0]} {_pick(rng, ('twin', 'identical twin', 'double'))}"
    return _together((first, _subject(first, rng)), (other, twin), rng)


def nouns(character: str) -> tuple[str, ...]:
    """The words that captions have for a character."""
    return _NOUNS[character]


def _plural(noun: str) -> str:
    if noun.endswith("man"):
        return f"{noun[:-3]}men"
    if noun[-1] == "x":
        return f"{noun}es"
    if noun[-1] == "y" and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def _pronoun(figure: Figure) -> str:
    return _SUBJECT_PRONOUNS.get(figure.character, "it")


def _image_words(scene: Scene, rng: np.random.Generator) -> str:
    """The words for a mirror or a portrait, with a blank in front, or none."""
    if not (scene.mirror or scene.portrait) or rng.random() > _NAMED:
        return ""
    if scene.portrait is None:
        glass = _pick(rng, ("a mirror", "a tall mirror", "a looking glass", "the mirror"))
        return f" {_pick(rng, ('in front of', *_BESIDE))} {glass}"
    figure = scene.figures[0]
    _, whom, oneself = _PRONOUNS[_pronoun(figure)]
    subject = _pick(rng, (oneself, whom, f"the {_NOUNS[figure.character][0]}"))
    picture = _pick(rng, ("a picture", "a painting", "a portrait", "a framed picture"))
    told = _painted(scene.portrait, whom, rng) if rng.random() < 0.15 else ""
    return f" {_pick(rng, _BESIDE)} {picture} of {subject}{told}"


def _painted(portrait: Scene, whom: str, rng: np.random.Generator) -> str:
    where, _ = _place_words(portrait, rng)
    return f" that shows {whom} {_verb(portrait.figures[0].action, rng)[2]} {where}"


def _subject(figure: Figure, rng: np.random.Generator) -> str:
    noun = _pick(rng, _NOUNS[figure.character])
    article = "the"
    if rng.random() < 0.6:
        article = "an" if noun[0] in "aeiou" else "a"
    if rng.random() < 0.65:
        return f"{article} {noun}"
    return f"{article} {noun} {_clothes(figure, rng)}"


def _clothes(figure: Figure, rng: np.random.Generator) -> str:
    lower = "a {} skirt" if figure.character == "girl" else "{} trousers"
    accessory = "hat" if figure.character in _HATTED else "scarf"
    parts = [
        _indefinite(f"{figure.outfit.top} {_TOPS[int(rng.integers(len(_TOPS)))]}"),
        lower.format(figure.outfit.bottom),
        _indefinite(f"{figure.outfit.hat} {accessory}"),
    ]
    named = sorted(rng.permutation(3)[: int(rng.integers(1, 4))].tolist())
    worn = [parts[index] for index in named]
    return f"{_pick(rng, ('wearing', 'in', 'with'))} {' and '.join(worn)}"


def _indefinite(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _predicate(action: str, rng: np.random.Generator, *, plural: bool) -> str:
    base, third, progressive, past = _verb(action, rng)
    now = base if plural else third
    be = "are" if plural else "is"
    verb = (f"{be} {progressive}", now, past)[int(rng.choice(3, p=(0.4, 0.4, 0.2)))]
    return f"{verb} {_pick(rng, _ADVERBS)}" if rng.random() < 0.15 else verb


def _ordered(clause: str, where: str, when: str, rng: np.random.Generator) -> str:
    order = int(rng.choice(3, p=(0.6, 0.2, 0.2)))
    if order == 1:
        return f"{where}, {clause} {when}".rstrip()
    if order == 2 and when:
        return f"{when}, {clause} {where}"
    return f"{clause} {where} {when}".rstrip()
