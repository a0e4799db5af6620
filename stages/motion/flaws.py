"""Finds clips that no viewer would accept: black, standing still, or torn in two.

What is looked at are the frames between the keyframes, which are given and whole. F frames, H
height, W width; pixels are uint8 sRGB, differences in grey levels of 255.
"""

import numpy as np

from storyreel.stages.motion.frames import STILL, Pixels

BLACK = 4.0
"""Mean level of a frame that shows nothing; keyframes as dark as that may lead to such frames."""
MOVES = 2.0
"""Keyframes that differ by more ask for motion."""
TORN_SHARE = 0.5
"""The largest step between two frames takes so much of the whole way from keyframe to keyframe."""
FROZEN_SHARE = 0.75
"""So many of the steps stand still."""


def find_flaw(frames: Pixels) -> str:
    """What is wrong with a clip (F, H, W, 3), F at least 4, keyframes at both ends; "" if nothing.

    Every flaw has a cause: a decoder that overflowed, a model that did not start, a cut instead of
    a motion. A clip that is merely ugly has none.
    """
    levels = frames.reshape(len(frames), -1).mean(axis=1)
    dark = np.flatnonzero(levels[1:-1] < BLACK) + 1
    if len(dark) and min(levels[0], levels[-1]) > 2 * BLACK:
        return f"{len(dark)} of {len(frames)} frames are black, the first of them {dark[0]}"
    steps = np.abs(np.diff(frames.astype(np.int16), axis=0)).mean(axis=(1, 2, 3))
    way = np.abs(frames[-1].astype(np.int16) - frames[0]).mean()
    if way < MOVES:
        return ""
    inner = steps[1:-1]
    if (inner < STILL).mean() >= FROZEN_SHARE:
        return f"{int((inner < STILL).sum())} of {len(inner)} steps between frames stand still"
    widest = int(steps.argmax())
    if steps[widest] > TORN_SHARE * max(steps.sum(), way):
        return f"the picture jumps between frames {widest} and {widest + 1}"
    return ""
