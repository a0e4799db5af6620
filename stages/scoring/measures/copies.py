"""Finds panels that repeat the picture of another panel instead of showing their own prompt."""

import numpy as np

from storyreel.stages.scoring.measures.tiles import Floats, contrasts, tile_distances

NOISE = 6.0
"""Grey levels; differences and contrasts below it say nothing."""
UNLIKE = 0.5
"""A tile is found where it differs by less than this share of its own contrast."""


def copied_share(first: Floats, second: Floats) -> float:
    """Share of each of two pictures that is found in the other or its mirror image, in [0, 1];
    symmetric.

    Every tile of the one is looked for at every place of the other. What counts is the share of
    the tiles with contrast that are found, the smaller of the two ways round; sky and walls agree
    by chance. So a picture is found that was shifted or given a light noise, and so is a copied
    background with the same figure pasted near its old place. The same place drawn anew, or a
    figure in another pose, is not; nor is the same picture in another light, which may be what a
    prompt asks for. A figure pasted far away uncovers and hides so much that only
    a part of such copies reaches the same share.

    Args:
        first, second: pictures as `storyreel.stages.scoring.measures.tiles.reduced` makes them.
    """
    return max(_shared(first, second), _shared(first, second[:, ::-1]))


def _shared(first: Floats, second: Floats) -> float:
    return min(_found(first, second), _found(second, first))


def _found(first: Floats, second: Floats) -> float:
    """The share of the first's tiles with contrast (of all, if none has) that the second holds."""
    contrast = contrasts(first)
    best = tile_distances(first, second).min(axis=(1, 2))
    found = best <= np.maximum(NOISE, UNLIKE * contrast)
    telling = contrast >= NOISE
    return float(found[telling].mean() if telling.any() else found.mean())
