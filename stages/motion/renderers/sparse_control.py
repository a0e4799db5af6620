"""A renderer of public weights: SparseCtrl (arXiv 2311.16933) beside AnimateDiff.

A ControlNet reads the latents of the first and the last frame, with a mask that says which frames
it is given, and adds to the features of the video UNet.

Axes: G guidance branches, B clips, C latent channels, F frames, h and w of latents.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import SparseControlNetModel
from torch import Tensor

from storyreel.stages.models.loading import load_part
from storyreel.stages.motion.config import MotionConfig, SparseControlConfig
from storyreel.stages.motion.denoise import rows_of_text
from storyreel.stages.motion.parts import load_motion_pipeline
from storyreel.stages.motion.renderer import Transition, check_alike
from storyreel.stages.motion.sampler import ClipSampler, SamplingRenderer


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseControl:
    """A `SparseControlNetModel` and the weight of what it adds."""

    controlnet: Any
    scale: float

    def guiding(self, unet: Any, keyframes: Tensor, num_frames: int) -> Any:
        """`unet`, told of the keyframes' latents (B, C, 2, h, w) in every call."""
        num_clips, channels, _, height, width = keyframes.shape
        condition = keyframes.new_zeros(num_clips, channels, num_frames, height, width)
        condition[:, :, [0, -1]] = keyframes
        known = torch.zeros_like(condition[:, :1])
        known[:, :, [0, -1]] = 1
        return _Guided(unet=unet, control=self, condition=condition, known=known)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Guided:
    """A `UNetMotionModel` with the features of the ControlNet added.

    condition: (B, C, F, h, w), zero between the keyframes. known: (B, 1, F, h, w), one at them.
    """

    unet: Any
    control: SparseControl
    condition: Tensor
    known: Tensor

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the sample."""
        dtype: torch.dtype = self.unet.dtype
        return dtype

    def __call__(self, sample: Tensor, timestep: Tensor, *, encoder_hidden_states: Tensor) -> Any:
        """The prediction for (G * B, C, F, h, w), of all guidance branches or of some."""
        num_branches = len(sample) // len(self.condition)
        down, mid = self.control.controlnet(
            sample,
            timestep,
            encoder_hidden_states=encoder_hidden_states,
            controlnet_cond=self.condition.repeat(num_branches, 1, 1, 1, 1).to(sample.dtype),
            conditioning_mask=self.known.repeat(num_branches, 1, 1, 1, 1).to(sample.dtype),
            conditioning_scale=self.control.scale,
            return_dict=False,
        )
        return self.unet(
            sample,
            timestep,
            encoder_hidden_states=encoder_hidden_states,
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
        )


class SparseControlRenderer(SamplingRenderer):
    """AnimateDiff under a SparseCtrl that knows both keyframes."""

    def __init__(self, config: MotionConfig, parts: SparseControlConfig) -> None:
        """Load the models.

        Raises:
            ValueError: the ControlNet reads drawings, not pictures.
        """
        pipeline = load_motion_pipeline(config, parts)
        controlnet = load_part(SparseControlNetModel, parts.sparse_controlnet, config.model)
        if not controlnet.config.use_simplified_condition_embedding:
            raise ValueError(
                "motion.renderer.sparse_controlnet: reads drawings of the frames, allowed are"
                " models that read their latents, such as guoyww/animatediff-sparsectrl-rgb"
            )
        control = SparseControl(controlnet=controlnet, scale=parts.conditioning_scale)
        self._sampler = ClipSampler(pipeline, config, parts, control)

    def __call__(self, transitions: Sequence[Transition]) -> list[Tensor]:
        """Render (F, 3, H, W) each."""
        check_alike(transitions)
        text = self._sampler.encode_text(transitions)
        return self._sampler.render(transitions, rows_of_text(text, transitions[0].num_frames))
