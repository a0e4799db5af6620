"""Renderers without a video model, to compare the others with.

Axes: C latent channels, F frames, H height, W width.
"""

from collections.abc import Sequence
from copy import copy
from typing import Self

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from storyreel.stages.models.config import PartConfig
from storyreel.stages.models.loading import load_part
from storyreel.stages.motion.autoencoder import Autoencoder
from storyreel.stages.motion.config import MotionConfig
from storyreel.stages.motion.frames import dissolve, to_image, to_pixels
from storyreel.stages.motion.renderer import Transition, check_alike

MAX_FRAMES = 1000
"""No model bounds the length; this one keeps a clip in memory."""


def slerp(first: Tensor, last: Tensor, num_frames: int) -> Tensor:
    """Turn evenly from one vector (E,) to the other; the length changes evenly, too: (F, E)."""
    share = torch.linspace(0, 1, num_frames, device=first.device, dtype=torch.float32)[:, None]
    start, end = first.float(), last.float()
    length = torch.lerp(start.norm(), end.norm(), share)
    start, end = start / start.norm(), end / end.norm()
    angle = torch.dot(start, end).clamp(-1, 1).arccos()
    # Of (nearly) equal directions the sines are zero; a straight line is the limit.
    if angle < 1e-4:
        turned = torch.lerp(start, end, share)
    else:
        from_start, to_end = torch.sin((1 - share) * angle), torch.sin(share * angle)
        turned = (from_start * start + to_end * end) / angle.sin()
    return torch.mul(length, turned)


class LatentInterpolation:
    """The VAE decodes latents that turn from one keyframe's to the other's."""

    max_frames = MAX_FRAMES

    def __init__(self, config: MotionConfig) -> None:
        """Load the VAE."""
        vae = load_part(AutoencoderKL, PartConfig(subfolder="vae"), config.model)
        self._autoencoder = Autoencoder(vae, config.decode_batch_size)

    def smaller(self) -> Self:
        """The same renderer with less memory."""
        smaller = copy(self)
        smaller._autoencoder = self._autoencoder.smaller()
        return smaller

    def __call__(self, transitions: Sequence[Transition]) -> list[Tensor]:
        """Render (F, 3, H, W) each; text and seed change nothing."""
        check_alike(transitions)
        encoded, clips = self._autoencoder.encode_keyframes(transitions), []
        for ends, one in zip(encoded, transitions, strict=True):
            first, last = ends[:, 0], ends[:, 1]
            latents = slerp(first.flatten(), last.flatten(), one.num_frames)
            clips.append(self._autoencoder.decode(latents.view(-1, *first.shape)))
        return clips


class Dissolve:
    """The keyframes are blended, in even steps of their sRGB values."""

    max_frames = MAX_FRAMES

    def smaller(self) -> Self:
        """The same renderer: it needs no memory to speak of."""
        return self

    def __call__(self, transitions: Sequence[Transition]) -> list[Tensor]:
        """Render (F, 3, H, W) each; text and seed change nothing."""
        check_alike(transitions)
        clips = []
        for one in transitions:
            first, last = to_pixels(torch.stack([one.first, one.last]))
            frames = dissolve(first, last, one.num_frames)
            clips.append(torch.stack([to_image(frame) for frame in frames]))
        return clips
