"""Labelled sentences: who is in the picture of the last one of each text."""

from dataclasses import dataclass
from pathlib import Path

from storyreel.stages.output.records import Character
from tests.stages.prompts.builders import character

FILE = Path(__file__).with_suffix(".txt")
CASTS: dict[str, tuple[Character, ...]] = {
    "pair": (character("Ann", "a girl in a red coat"), character("Tom", "a boy with a kite")),
    "zoo": (character("Bruno", "a bear"), character("Mimi", "a rabbit"), character("Rex", "a dog")),
    "crew": (
        character("Anna", "a woman in a white dress"),
        character("Paul", "an old man"),
        character("Pip", "a robot"),
    ),
    "words": (character("Will", "a boy"), character("May", "a girl"), character("Rose", "a woman")),
    "-": (),
}


@dataclass(frozen=True)
class Labelled:
    """A text, its characters, and who is in the picture of its last sentence."""

    kind: str
    characters: tuple[Character, ...]
    text: str
    shown: frozenset[str]


def read_labelled() -> list[Labelled]:
    """All labelled texts; every second one of a kind was kept aside while the rules were made."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    rows = [line.split("|") for line in lines if not line.startswith("#")]
    return [
        Labelled(
            kind=kind.strip(),
            characters=CASTS[cast.strip()],
            text=text.strip(),
            shown=frozenset(name.strip() for name in shown.split(",") if name.strip()),
        )
        for kind, cast, text, shown in rows
    ]
