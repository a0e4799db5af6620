"""Denoises the latents of clips whose first and last frames are given.

Axes: G guidance branches (negative first), B clips, C latent channels, F frames, L text tokens,
T image tokens, D cross-attention channels. `UNetMotionModel` turns (G * B) clips into
(G * B * F) rows, frames innermost; whatever it cross-attends to needs the same order.
"""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.unets.unet_motion_model import UNetMotionOutput
from einops import rearrange, repeat
from torch import Tensor

from storyreel.stages.heartbeat import beat
from storyreel.stages.models.denoising import guide
from storyreel.stages.motion.config import Anchor

Conditions = Tensor | tuple[Tensor, list[Tensor]]
"""`encoder_hidden_states` of the UNet: rows (G * B * F, L, D), perhaps with rows
(G * B * F, 1, T, D) for each IP-Adapter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Denoising:
    """How clips are denoised; a guidance of 1 and below is none."""

    num_inference_steps: int
    guidance_scale: float
    anchor: Anchor = Anchor.CLEAN

    @property
    def num_branches(self) -> int:
        """G."""
        return 2 if self.guidance_scale > 1 else 1


def rows_of_text(text: Tensor, num_frames: int) -> Tensor:
    """Text tokens (G, B, L, D) for every frame: (G * B * F, L, D)."""
    return repeat(text, "g b l d -> (g b f) l d", f=num_frames)


def rows_of_frames(tokens: Tensor) -> Tensor:
    """Tokens of each frame (G, B, F, T, D) in the UNet's order: (G * B * F, T, D)."""
    return rearrange(tokens, "g b f t d -> (g b f) t d")


@torch.inference_mode()
def denoise_clips(
    unet: Any,
    scheduler: Any,
    *,
    noise: Tensor,
    keyframes: Tensor,
    conditions: Conditions,
    how: Denoising,
) -> Tensor:
    """Denoise clips that keep their keyframes.

    Args:
        unet: a `UNetMotionModel`.
        scheduler: a deterministic scheduler of diffusers, not shared with another loop.
        noise: (B, C, F, h, w) drawn from a unit normal.
        keyframes: (B, C, 2, h, w) latents of the first and the last frame.
        conditions: rows of all branches, frames innermost.
        how: steps, guidance, anchor; `how.num_branches` is G.

    Returns:
        Latents (B, C, F, h, w), float32; those of frames 0 and F - 1 are `keyframes`.
    """
    scheduler.set_timesteps(how.num_inference_steps, device=noise.device)
    latents = noise * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        if how.anchor is Anchor.NOISED:
            # Not trained with clean ends, a model expects the noise of this step in all frames.
            ends = scheduler.add_noise(keyframes, _ends(noise), timestep[None])
            latents = _anchored(latents, ends)
        sample = scheduler.scale_model_input(latents, timestep)
        if how.anchor is Anchor.CLEAN:
            sample = _anchored(sample, keyframes)
        prediction = _guided_prediction(unet, sample, timestep, conditions, how)
        latents = scheduler.step(prediction, timestep, latents).prev_sample
        beat()
    return _anchored(latents, keyframes)


def _ends(clips: Tensor) -> Tensor:
    """(B, C, F, h, w) -> (B, C, 2, h, w)."""
    return clips[:, :, [0, -1]]


def _anchored(latents: Tensor, ends: Tensor) -> Tensor:
    return torch.cat([ends[:, :, :1], latents[:, :, 1:-1], ends[:, :, 1:]], dim=2)


def _guided_prediction(
    unet: Any, sample: Tensor, timestep: Tensor, conditions: Conditions, how: Denoising
) -> Tensor:
    # Frames are innermost, branches outermost: the order that `UNetMotionModel` flattens to.
    branches = repeat(sample, "b ... -> (g b) ...", g=how.num_branches).to(unet.dtype)
    prediction: Tensor = unet(branches, timestep, encoder_hidden_states=conditions).sample.float()
    by_branch = rearrange(prediction, "(g b) ... -> g b ...", g=how.num_branches)
    return guide(by_branch, how.guidance_scale)


class BranchByBranch:
    """A `UNetMotionModel`, called with one guidance branch at a time: it needs less memory."""

    def __init__(self, unet: Any, num_branches: int) -> None:
        self._unet = unet
        self._num_branches = num_branches
        self.dtype = unet.dtype

    def __call__(
        self, sample: Tensor, timestep: Tensor, *, encoder_hidden_states: Conditions
    ) -> Any:
        """The model's prediction for all branches, (G * B, C, F, h, w)."""
        branches = zip(
            sample.chunk(self._num_branches), self._split(encoder_hidden_states), strict=True
        )
        predicted = [
            self._unet(rows, timestep, encoder_hidden_states=conditions).sample
            for rows, conditions in branches
        ]
        return UNetMotionOutput(sample=torch.cat(predicted))

    def _split(self, conditions: Conditions) -> list[Conditions]:
        if isinstance(conditions, Tensor):
            return list(conditions.chunk(self._num_branches))
        text, images = conditions
        of_branches = zip(*(image.chunk(self._num_branches) for image in images), strict=True)
        texts = text.chunk(self._num_branches)
        return [(text, list(images)) for text, images in zip(texts, of_branches, strict=True)]
