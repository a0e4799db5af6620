"""Shots that are longer than a model's clips, rendered in windows that share their context.

One clip over the whole shot comes first, with as many frames as the model knows; some of its frames
are waypoints. A window leads from each waypoint to the next, so that every window knows where the
shot is going, and ends where its neighbour begins. Of a model of 5 frames, a shot of 9::

    whole shot   0     2     4     6     8      its middle frame is the waypoint
    windows      0  1  2  3  4
                             4  5  6  7  8

Axes: F frames, H height, W width.
"""

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from itertools import pairwise
from typing import Self

import torch
from torch import Tensor

from storyreel.stages.motion.ends import match_ends
from storyreel.stages.motion.renderer import Transition, TransitionRenderer, check_alike
from storyreel.stages.seeds import derive_seed


def boundaries(num_frames: int, max_frames: int) -> list[int]:
    """The frames at which windows of at most `max_frames` frames begin and end: 0, ..., F - 1.

    Neighbours share a frame; the lengths differ by one at most.
    """
    num_windows = max(1, -(-(num_frames - 1) // (max_frames - 1)))
    return [round(index * (num_frames - 1) / num_windows) for index in range(num_windows + 1)]


class WindowedRenderer:
    """Renders shots of any length with a renderer of short clips.

    Args:
        renderer: of clips of at most `renderer.max_frames` frames.
        batch_size: windows in one call of it, if they have one length.
    """

    def __init__(self, renderer: TransitionRenderer, batch_size: int) -> None:
        self._renderer = renderer
        self._batch_size = batch_size

    @property
    def max_frames(self) -> int:
        """As many windows as the clip over the whole shot has steps."""
        steps = self._renderer.max_frames - 1
        return steps * steps + 1

    def smaller(self) -> Self:
        """The same renderer with less memory: one window at a time, of the smaller renderer."""
        smaller = copy(self)
        smaller._renderer = self._renderer.smaller()
        smaller._batch_size = 1
        return smaller

    def __call__(self, transitions: Sequence[Transition]) -> list[Tensor]:
        """Render (F, 3, H, W) each."""
        check_alike(transitions)
        if transitions[0].num_frames <= self._renderer.max_frames:
            return self._in_batches(transitions)
        return [self._long(one) for one in transitions]

    def _long(self, transition: Transition) -> Tensor:
        ends = boundaries(transition.num_frames, self._renderer.max_frames)
        waypoints = self._waypoints(transition, len(ends) - 1)
        windows = [
            replace(
                transition,
                first=first,
                last=last,
                num_frames=end - start + 1,
                seed=derive_seed("window", transition.seed, start),
            )
            for (first, last), (start, end) in zip(pairwise(waypoints), pairwise(ends), strict=True)
        ]
        clips = self._in_batches(windows)
        matched = [
            match_ends(clip, window.first, window.last)
            for window, clip in zip(windows, clips, strict=True)
        ]
        return torch.cat([*(clip[:-1] for clip in matched), matched[-1][-1:]])

    def _waypoints(self, transition: Transition, num_windows: int) -> list[Tensor]:
        """The first frame of every window and the last of the last, (3, H, W) each."""
        stride = (self._renderer.max_frames - 1) // num_windows
        whole = replace(transition, num_frames=stride * num_windows + 1)
        (frames,) = self._renderer([whole])
        frames = match_ends(frames, transition.first, transition.last)
        # The pixels are limited to what a picture holds, as every keyframe is.
        between = frames[stride:-1:stride].clamp(-1, 1)
        return [transition.first, *between, transition.last]

    def _in_batches(self, transitions: Sequence[Transition]) -> list[Tensor]:
        clips: dict[int, Tensor] = {}
        for batch in self._batches(transitions):
            rendered = self._renderer([transitions[index] for index in batch])
            clips.update(zip(batch, rendered, strict=True))
        return [clips[index] for index in range(len(transitions))]

    def _batches(self, transitions: Sequence[Transition]) -> Iterator[list[int]]:
        """Indices of transitions of one length, at most `batch_size` together."""
        for length in sorted({one.num_frames for one in transitions}):
            alike = [i for i, one in enumerate(transitions) if one.num_frames == length]
            for start in range(0, len(alike), self._batch_size):
                yield alike[start : start + self._batch_size]
