"""Clips as pixels: conversion, the shots that need no model, and how smooth the ends are.

Axes: F frames, H height, W width. Pixels are uint8 sRGB.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Pixels = NDArray[np.uint8]

STILL = 0.01
"""Grey levels; frames that differ by less stand still."""


def to_pixels(images: Tensor) -> Pixels:
    """(F, 3, H, W) in [-1, 1] to (F, H, W, 3) in [0, 255]."""
    levels = ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    pixels: Pixels = levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return pixels


def to_image(pixels: Pixels) -> Tensor:
    """(H, W, 3) in [0, 255] to (3, H, W) in [-1, 1]; `to_pixels` gives the same pixels back."""
    return torch.tensor(pixels).permute(2, 0, 1).float() / 127.5 - 1


def cut(first: Pixels, last: Pixels) -> Pixels:
    """Both keyframes (H, W, 3), one after the other."""
    return np.stack([first, last])


def hold(first: Pixels, last: Pixels, num_frames: int) -> Pixels:
    """The first keyframe, until the last one in the last frame."""
    return np.stack([first] * (num_frames - 1) + [last])


def dissolve(first: Pixels, last: Pixels, num_frames: int) -> Pixels:
    """From one keyframe to the other, in even steps of the sRGB values as editors do it."""
    share = np.linspace(0, 1, num_frames).reshape(-1, 1, 1, 1)
    return np.rint((1 - share) * first + share * last).astype(np.uint8)


def resampled(frames: Pixels, num_frames: int) -> Pixels:
    """As many frames at even times, each a blend of the two nearest of the given ones (F, H, W, 3).

    What changes a frame rate without a model of its own: a picture that moves fast is seen twice.
    """
    if len(frames) == num_frames:
        return frames
    times = np.linspace(0, len(frames) - 1, num_frames)
    before = np.minimum(times.astype(int), len(frames) - 2)
    share = (times - before).reshape(-1, 1, 1, 1)
    blended = (1 - share) * frames[before] + share * frames[before + 1]
    pixels: Pixels = np.rint(blended).astype(np.uint8)
    return pixels


def endpoint_jump(frames: Pixels) -> float:
    """The change at the keyframes, relative to the median change inside the clip.

    The larger of the two mean absolute differences between a keyframe and the generated frame next
    to it, divided by the median difference between neighbouring generated frames.

    Args:
        frames: (F, H, W, 3), F at least 4, keyframes at both ends.
    """
    steps = np.abs(np.diff(frames.astype(np.int16), axis=0)).mean(axis=(1, 2, 3))
    return float(max(steps[0], steps[-1]) / max(float(np.median(steps[1:-1])), STILL))


def endpoint_closeness(generated: Pixels, first: Pixels, last: Pixels) -> float:
    """The distance of a model's own first and last frame from the keyframes that replace them.

    Args:
        generated: (F, H, W, 3) as the model gave them.
        first, last: the keyframes (H, W, 3).

    Returns:
        The larger of the two mean absolute differences, in grey levels of 255.
    """
    ends = np.abs(generated[[0, -1]].astype(np.int16) - np.stack([first, last]))
    return float(ends.mean(axis=(1, 2, 3)).max())
