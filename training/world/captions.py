"""What a picture shows, in words and in class indices."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from training.world.records import ACTIONS, CHARACTERS, PALETTE, PLACES, TIMES, Clip, Figure, Scene

# Every table: the words that mean the entry; the plain name comes first and is used most.
_NOUNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "girl": ("girl", "little girl", "young girl"),
        "boy": ("boy", "little boy", "young boy"),
        "old man": ("old man", "elderly man", "grandfather"),
        "robot": ("robot", "small robot", "friendly robot"),
        "cat": ("cat", "kitty", "little cat"),
        "bear": ("bear", "big bear", "furry bear"),
        "rabbit": ("rabbit", "bunny", "little rabbit"),
        "fox": ("fox", "little fox", "clever fox"),
    }
)
# base, third person, progressive, past
_VERBS: Mapping[str, tuple[tuple[str, str, str, str], ...]] = MappingProxyType(
    {
        "walking": (
            ("walk", "walks", "walking", "walked"),
            ("stroll", "strolls", "strolling", "strolled"),
            ("go for a walk", "goes for a walk", "going for a walk", "went for a walk"),
        ),
        "running": (
            ("run", "runs", "running", "ran"),
            ("race", "races", "racing", "raced"),
            ("hurry along", "hurries along", "hurrying along", "hurried along"),
        ),
        "jumping": (
            ("jump", "jumps", "jumping", "jumped"),
            ("leap", "leaps", "leaping", "leapt"),
            ("hop", "hops", "hopping", "hopped"),
        ),
        "waving": (
            ("wave", "waves", "waving", "waved"),
            ("wave hello", "waves hello", "waving hello", "waved hello"),
            ("wave a hand", "waves a hand", "waving a hand", "waved a hand"),
        ),
        "dancing": (
            ("dance", "dances", "dancing", "danced"),
            ("dance to music", "dances to music", "dancing to music", "danced to music"),
        ),
        "sitting": (
            ("sit", "sits", "sitting", "sat"),
            ("sit down", "sits down", "sitting down", "sat down"),
            ("take a seat", "takes a seat", "taking a seat", "took a seat"),
        ),
        "sleeping": (
            ("sleep", "sleeps", "sleeping", "slept"),
            ("take a nap", "takes a nap", "taking a nap", "took a nap"),
            ("fall asleep", "falls asleep", "falling asleep", "fell asleep"),
        ),
        "reading": (
            ("read", "reads", "reading", "read"),
            ("read a book", "reads a book", "reading a book", "read a book"),
            ("look at a book", "looks at a book", "looking at a book", "looked at a book"),
        ),
    }
)
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


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """One plain English sentence that fits `scene`; clothes are left open in about two of three."""
    where, when = _place_words(scene, rng)
    if not scene.figures:
        return _empty(scene, when, rng)
    return _ordered(_clause(scene, rng), where, when, rng)


def clip_caption(clip: Clip, rng: np.random.Generator) -> str:
    """The caption of a clip: of its scene inside one place, of its two ends otherwise."""
    first, last = clip.scenes[0], clip.scenes[-1]
    if clip.mixes[-1] == 0.0:
        return caption(first, rng)
    where, when = _place_words(last, rng)
    verb = _verb(last.figures[0].action, rng)[1]
    pronoun = {"girl": "she", "boy": "he", "old man": "he"}.get(first.figures[0].character, "it")
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
    """Who does what, in one of three tenses."""
    first = scene.figures[0]
    others = [other for other in scene.figures if other.character != first.character]
    if not others:
        return f"{_subject(first, rng)} {_predicate(first.action, rng, plural=False)}"
    (other,) = others
    if first.action == other.action:
        pair = f"{_subject(first, rng)} and {_subject(other, rng)}"
        return f"{pair} {_predicate(first.action, rng, plural=True)}"
    one = f"{_subject(first, rng)} {_predicate(first.action, rng, plural=False)}"
    return f"{one} and {_subject(other, rng)} {_predicate(other.action, rng, plural=False)}"


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
