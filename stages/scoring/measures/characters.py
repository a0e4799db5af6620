"""Similarity of the characters of a story from panel to panel.

Axes: H height, W width, P panels, E channels of CLIP's shared space.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from storyreel.stages.output.records import Panel
from storyreel.stages.scoring.measures.text_image import cosine

GREY = 127
"""What stands behind a character that was cut out."""

Pair = tuple[int, int]
"""Places of two panels in their story, the smaller first."""


def cut_out(picture: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A picture (H, W, 3) with everything outside of `mask` (H, W) grey.

    Raises:
        ValueError: the mask has another size.
    """
    if mask.shape != picture.shape[:2]:
        raise ValueError(f"mask: {mask.shape}, must be {picture.shape[:2]} as the picture")
    return np.where(mask[..., None], picture, np.uint8(GREY))


def character_pairs(panels: Sequence[Panel]) -> list[Pair]:
    """The pairs of panels in which the same character should be seen.

    These are panels that share a named character, or all panels where the story names none; beats
    of one panel are no pair, for they share their prompt.
    """
    named = any(panel.characters for panel in panels)
    return [
        (i, j)
        for (i, first), (j, second) in combinations(enumerate(panels), 2)
        if first.panel_index != second.panel_index
        and (not named or set(first.characters) & set(second.characters))
    ]


def pair_similarities(embeds: Tensor, pairs: Sequence[Pair]) -> dict[Pair, float]:
    """The character similarity of the paper's Table 1: CLIP cosines of pairs of panels (P, E)."""
    if not pairs:
        return {}
    first, second = (list(side) for side in zip(*pairs, strict=True))
    values: list[float] = cosine(embeds[first], embeds[second]).tolist()
    return dict(zip(pairs, values, strict=True))
