"""Measures of a clip's motion: amount, smoothness, and continuity at its keyframes.

Axes: F frames, H height, W width. Pixels are uint8 sRGB, differences are in grey levels of 255.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from storyreel.stages.motion.frames import STILL
from storyreel.stages.scoring.measures.tiles import (
    CORNERS,
    PLACES,
    SIDE,
    Floats,
    Pixels,
    contrasts,
    reduced,
    tile_distances,
)

LIVELIEST = 0.05
"""The share of a picture that is asked whether anything moves, as VBench's dynamic degree does."""
CONTRAST = 4.0
"""Grey levels; a tile with less has nothing that could be seen to move."""
MOVED = 0.5
"""A tile has moved if it fits its new place this much better than its old one."""
HOPS = np.hypot(*(np.mgrid[:PLACES, :PLACES][:, None] - CORNERS.T[:, :, None, None])) / SIDE
"""(K, Y, X) how far each place is from where the tile lies, in picture widths."""
NEAR = HOPS <= 1 / 16
"""The places where a tile of one frame is looked for in the next."""


def difference(first: Pixels, second: Pixels) -> float:
    """Mean absolute difference of two pictures (H, W, 3), in [0, 255]."""
    return float(np.abs(first.astype(np.int16) - second).mean())


def steps(frames: Sequence[Pixels]) -> list[float]:
    """The F - 1 mean absolute differences of neighbouring frames (F, H, W, 3).

    Their mean is 255 (1 - temporal flickering) of VBench (arXiv 2311.17982), which so calls
    whatever moves flickering.
    """
    return [difference(first, second) for first, second in pairwise(frames)]


def motion_magnitude(frames: Sequence[Pixels]) -> float:
    """Mean absolute difference of neighbouring frames (F, H, W, 3); 0 for one frame."""
    between = steps(frames)
    return float(np.mean(between)) if between else 0.0


def flicker(frames: Sequence[Pixels]) -> float:
    """Grey levels that come and go again: mean |x(t) - median(x(t-1), x(t), x(t+1))|.

    This is the part of the second temporal difference that turns back; it is 0 for whatever
    brightens, darkens, stands still or passes as a clean edge. Fewer than three frames give 0.
    """
    levels = [
        np.abs(here.astype(np.int16) - np.median([before, here, after], axis=0)).mean()
        for before, here, after in zip(frames, frames[1:], frames[2:], strict=False)
    ]
    return float(np.mean(levels)) if levels else 0.0


def liveliness(frames: Sequence[Pixels]) -> float:
    """How much the liveliest twentieth of the picture changes from frame to frame, grey levels, or
    how far it departs from what only blinks or fades, if that is less.

    Taken on small pictures, so that noise averages out, and the median over the steps, so that one
    jump, such as that to the last keyframe of a frozen clip, does not count as motion.
    """
    small = [reduced(frame) for frame in frames]
    levels = [_liveliest(first, second) for first, second in pairwise(small)]
    departures = _departures(small)
    return float(min(np.median(each) for each in (levels, departures) if each)) if levels else 0.0


def is_static(frames: Sequence[Pixels], level: float) -> bool:
    """True if a clip (F, H, W, 3) stands still, blinks or fades: its `liveliness` is below
    `level`."""
    return liveliness(frames) < level


def _liveliest(first: Floats, second: Floats) -> float:
    change = np.sort(np.abs(first - second).mean(axis=-1), axis=None)
    return float(change[-max(1, round(LIVELIEST * change.size)) :].mean())


def _departures(small: Sequence[Floats]) -> list[float]:
    """How far each frame is from the nearest mixture of the second, the last but one and white;
    nothing for these two themselves, nor where there are fewer than three.

    Every frame of a still that blinks or of a fade is such a mixture. The outermost frames are
    keyframes, which a model's own frames may differ from, standing still.
    """
    if len(small) < 3:
        return []
    rows = np.stack(small).reshape(len(small), -1)
    sources = [1, len(rows) - 2]
    parts = np.stack([*rows[sources], np.full_like(rows[0], 255)], axis=1)
    mixtures = parts @ np.linalg.lstsq(parts, rows.T, rcond=None)[0]
    return [
        _liveliest(frame, mixture.reshape(frame.shape))
        for place, (frame, mixture) in enumerate(zip(small, mixtures.T, strict=True))
        if place not in sources
    ]


def displacement(frames: Sequence[Pixels]) -> float:
    """Mean displacement of textured tiles from frame to frame, in widths of the picture.

    By block matching, up to a sixteenth of the width per frame. A tile counts as moved if it fits
    its new place at least twice as well, so fading and flicker move nothing. 0 for one frame.
    """
    small = [reduced(frame) for frame in frames]
    moved = [_displacement(first, second) for first, second in pairwise(small)]
    return float(np.mean(moved)) if moved else 0.0


def _displacement(first: Floats, second: Floats) -> float:
    telling = contrasts(first) >= CONTRAST
    if not telling.any():
        return 0.0
    distances = np.where(NEAR, tile_distances(first, second), np.inf)[telling]
    stayed = distances[HOPS[telling] == 0]
    flat = distances.reshape(len(distances), -1)
    best = flat.argmin(axis=1)
    hops = np.take_along_axis(HOPS[telling].reshape(flat.shape), best[:, None], axis=1)[:, 0]
    moved = (stayed > CONTRAST) & (flat.min(axis=1) < MOVED * stayed)
    return float(np.where(moved, hops, 0).mean())


def endpoint_jumps(frames: Sequence[Pixels]) -> tuple[float, float]:
    """The steps at both ends of a clip in median steps inside; see `frames.endpoint_jump`.

    Args:
        frames: (F, H, W, 3), F at least 4, the keyframes at both ends.

    Raises:
        ValueError: there are fewer frames.
    """
    between = _clip_steps(frames)
    inner = _median_step(between[1:-1])
    return between[0] / inner, between[-1] / inner


def join_jump(before: Sequence[Pixels], after: Sequence[Pixels]) -> float:
    """The larger of the two steps around the keyframe that two clips share, in median steps.

    Args:
        before, after: (F, H, W, 3) each, F at least 4, the keyframes at both ends; the median is
            that of the steps inside both.

    Raises:
        ValueError: there are fewer frames.
    """
    return join_jump_of_steps(_clip_steps(before), _clip_steps(after))


def join_jump_of_steps(before: Sequence[float], after: Sequence[float]) -> float:
    """`join_jump` from the `steps` of both clips, where their frames are no longer at hand."""
    return max(before[-1], after[0]) / _median_step([*before[1:-1], *after[1:-1]])


def _median_step(between: Sequence[float]) -> float:
    return max(float(np.median(between)), STILL)


def _clip_steps(frames: Sequence[Pixels]) -> list[float]:
    if len(frames) < 4:
        raise ValueError(f"{len(frames)} frames, must be both keyframes and at least 2 between")
    return steps(frames)
