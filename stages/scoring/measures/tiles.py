"""Small pictures cut into tiles, and where in another picture each tile is found.

Axes: H height, W width, K tiles of a picture, Y and X places of a tile's corner, P its pixels.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Pixels = NDArray[np.uint8]
Floats = NDArray[Any]

SIDE = 64
"""Pictures are made this large, so that the figures do not depend on the resolution."""
TILE = 8
PLACES = SIDE - TILE + 1
"""Y and X: a tile fits in at so many places along a side."""
CORNERS = np.mgrid[0:SIDE:TILE, 0:SIDE:TILE].reshape(2, -1).T
"""(K, 2) where the tiles lie, downwards and to the right."""
BLUR = 0.75
"""Of `SIDE`, the radius in pixels; without it an edge half a pixel away would be another edge."""


def reduced(picture: Pixels) -> Floats:
    """A picture (H, W, 3) as float (SIDE, SIDE, 3), averaged over areas, in [0, 255]."""
    small = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX)
    blurred: Floats = np.asarray(small.filter(ImageFilter.GaussianBlur(BLUR)), dtype=np.float32)
    return blurred


def contrasts(small: Floats) -> Floats:
    """The standard deviations (K,) of the tiles of a reduced picture, over places, in grey levels;
    a tile of little contrast looks like its neighbours."""
    variances: Floats = _windows(small)[*CORNERS.T].var(axis=(2, 3))
    deviations: Floats = np.sqrt(variances.mean(axis=1))
    return deviations


def tile_distances(first: Floats, second: Floats) -> Floats:
    """How badly each tile of the first picture fits each place of the second: (K, Y, X), the root
    of the mean squared difference, in grey levels. Both are reduced pictures."""
    places = _rows(_windows(second - 127.5))
    tiles = _rows(_windows(first - 127.5)[*CORNERS.T])
    squares = _squares(tiles)[:, None] + _squares(places) - 2 * tiles @ places.T
    distances: Floats = np.sqrt(np.maximum(squares, 0) / tiles.shape[1])
    return distances.reshape(len(tiles), PLACES, PLACES)


def _windows(small: Floats) -> Floats:
    """The tiles at all places: (Y, X, 3, TILE, TILE)."""
    return np.lib.stride_tricks.sliding_window_view(small, (TILE, TILE), axis=(0, 1))


def _rows(windows: Floats) -> Floats:
    """(..., 3, TILE, TILE) to (N, P)."""
    return windows.reshape(-1, 3 * TILE * TILE)


def _squares(rows: Floats) -> Floats:
    squares: Floats = np.einsum("np,np->n", rows, rows)
    return squares
