"""Leads generated frames out of the first keyframe and into the last, without a jump.

A model gives its own version of the keyframes: in other colours, and as sharp as its autoencoder.
The keyframes themselves are put in their place, so that neighbours of theirs have to follow.

Axes: F frames, H height, W width.
"""

import torch
from torch import Tensor

LIMITS = 0.5, 2.0
"""How far contrast is changed at most: a nearly plain frame would become noise."""
REACH = 0.3
"""Share of a clip over which what is left of the difference fades; over more of it, what has moved
away leaves a ghost."""


def match_ends(frames: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """Give a clip the keyframes as its ends, and let the frames next to them follow.

    Mean and standard deviation of each colour channel become those of the keyframes, evenly from
    one end to the other; then what still differs at an end is added to its neighbours, less with
    each.

    Args:
        frames: (F, 3, H, W), the ends a model's own versions of the keyframes.
        first, last: the keyframes, (3, H, W).

    Returns:
        (F, 3, H, W); the ends are the keyframes, all else is not limited to [-1, 1].
    """
    matched = _match_colours(frames, first, last)
    share = torch.linspace(0, 1, len(frames))[:, None, None, None]
    from_start, to_end = ((1 - way / REACH).clamp(min=0) for way in (share, 1 - share))
    return matched + from_start * (first - matched[0]) + to_end * (last - matched[-1])


def _match_colours(frames: Tensor, first: Tensor, last: Tensor) -> Tensor:
    gains, shifts = [], []
    for own, wanted in ((frames[0], first), (frames[-1], last)):
        spread = own.std(dim=(1, 2)).clamp(min=1e-4)
        gain = (wanted.std(dim=(1, 2)) / spread).clamp(*LIMITS)
        gains.append(gain)
        shifts.append(wanted.mean(dim=(1, 2)) - gain * own.mean(dim=(1, 2)))
    share = torch.linspace(0, 1, len(frames))[:, None]
    gain, shift = (torch.lerp(a, b, share)[..., None, None] for a, b in (gains, shifts))
    return gain * frames + shift
