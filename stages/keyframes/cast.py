"""Who is in which image of a story, and which words of its prompt say so.

Axes: R images (reference images, then panels), C characters, L tokens of the text.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from storyreel.stages.output.records import CharacterBox, Panel
from storyreel.stages.units import KeyframesUnit

_ARTICLES = frozenset({"a", "an", "the"})
_WORD = re.compile(r"\w+")


Box = tuple[int, CharacterBox]
"""A character, by index, and where it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """The characters of a story, by index, image by image.

    of_references: the character of each reference image. present: of each of the R images who is
    in it. words: (R, L, 1 + C), how much each token counts: for the start of the text (of each of
    its chunks), then for each character, whose column sums to 1, or to 0 where the prompt has no
    word for it. places: of each image where it is, by the place's index; None: not stated. boxes:
    of each image where its characters are, as far as that is given.
    """

    of_references: tuple[int, ...]
    present: tuple[tuple[int, ...], ...]
    words: Tensor
    places: tuple[int | None, ...]
    boxes: tuple[tuple[Box, ...], ...]

    @property
    def num_characters(self) -> int:
        """C."""
        return self.words.shape[2] - 1


def cast_of(unit: KeyframesUnit, chunks: Sequence[Sequence[str]], tokenizer: Any) -> Cast:
    """The cast of a unit.

    Args:
        unit: the panels with their characters.
        chunks: of each panel's prompt, the texts that are encoded one behind the other
            (`prompt_chunks`), as many for each panel.
        tokenizer: cuts each of them into as many tokens as its model reads.
    """
    names = tuple(dict.fromkeys(name for panel in unit.panels for name in panel.characters))
    of_references = tuple(names.index(image.character) for image in unit.reference_images)
    # A story that names nobody still shows somebody: one character, in all of its panels.
    unnamed = () if names else (0,)
    present = [
        tuple(names.index(name) for name in panel.characters) or unnamed for panel in unit.panels
    ]
    num_characters = max(len(names), 1)
    length = tokenizer.model_max_length
    num_tokens = length * len(chunks[0])
    words = torch.zeros(len(of_references) + len(present), num_tokens, 1 + num_characters)
    words[:, ::length, 0] = 1
    for row, (panel, texts) in enumerate(zip(unit.panels, chunks, strict=True), len(of_references)):
        for name, own in own_words(panel, unit).items():
            places = places_of(own, texts, tokenizer)
            words[row, places, 1 + names.index(name)] = 1 / max(len(places), 1)
    known = list(dict.fromkeys(panel.place for panel in unit.panels if panel.place))
    no_box: tuple[Box, ...] = ()
    return Cast(
        of_references=of_references,
        present=(*((character,) for character in of_references), *present),
        words=words,
        places=(
            *(None for _ in of_references),
            *(known.index(panel.place) if panel.place else None for panel in unit.panels),
        ),
        boxes=(
            *(no_box for _ in of_references),
            *(
                tuple((names.index(box.character), box) for box in panel.layout)
                for panel in unit.panels
            ),
        ),
    )


def own_words(panel: Panel, unit: KeyframesUnit) -> dict[str, set[str]]:
    """Of each character of a panel the words of its name and description that no other one has."""
    described = {character.name: character.description for character in unit.characters}
    said = {name: _words(f"{name} {described.get(name, '')}") for name in panel.characters}
    return {
        name: words.difference(*(said[other] for other in said if other != name))
        for name, words in said.items()
    }


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower())) - _ARTICLES


def places_of(words: set[str], chunks: Sequence[str], tokenizer: Any) -> list[int]:
    """Where in the tokens of a prompt's chunks one of the words stands."""
    length = tokenizer.model_max_length
    places: set[int] = set()
    for chunk, text in enumerate(chunks):
        cut = tokenizer(text, truncation=True, max_length=length).input_ids
        for word in words:
            wanted = tokenizer(word, add_special_tokens=False).input_ids
            for start in range(1, len(cut) - len(wanted) + 1):
                if cut[start : start + len(wanted)] == wanted:
                    found = range(start, start + len(wanted))
                    places.update(chunk * length + place for place in found)
    return sorted(places)
