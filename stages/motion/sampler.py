"""Renders a clip with a video UNet: text, anchored keyframes, keyframe reading, decoding.

Axes: G guidance branches (negative first), F frames, C latent channels, L text tokens, D channels
of cross-attention, N tokens of a frame in spatial self-attention.
"""

from contextlib import AbstractContextManager, nullcontext
from copy import copy
from typing import Any

import torch
from torch import Tensor

from storyreel.stages.heartbeat import beat
from storyreel.stages.models.attention import LockStep, readers
from storyreel.stages.models.denoising import draw_noise
from storyreel.stages.models.loading import encode_prompts
from storyreel.stages.models.schedulers import build_scheduler
from storyreel.stages.models.unet_attention import assert_installed, install_attention
from storyreel.stages.motion.config import MotionConfig
from storyreel.stages.motion.denoise import BranchByBranch, Conditions, denoise_clips
from storyreel.stages.motion.renderer import Transition


class ClipSampler:
    """Samples the frames between two keyframes, whatever conditions the UNet."""

    def __init__(self, pipeline: Any, config: MotionConfig) -> None:
        """Take over a pipeline whose UNet is a finished `UNetMotionModel`.

        Everything that changes attention processors must have happened before.
        """
        self.max_frames: int = pipeline.unet.config.motion_max_seq_length
        self._pipeline = pipeline
        self._config = config
        self._scheduler = build_scheduler(config.scheduler, pipeline.scheduler)
        self._attention = install_attention(pipeline.unet) if config.read_keyframes else None
        self._unet = pipeline.unet

    def smaller(self) -> "ClipSampler":
        """The same sampler with less memory: one frame, or one guidance branch, in a model call."""
        smaller = copy(self)
        smaller._config = self._config.model_copy(update={"decode_batch_size": 1})
        smaller._unet = BranchByBranch(self._pipeline.unet, self._config.num_branches)
        return smaller

    def encode_text(self, transition: Transition) -> Tensor:
        """The text of all guidance branches, (G, 1, L, D)."""
        text = encode_prompts(self._pipeline, [transition.text], [transition.negative_prompt])
        # Without guidance only the positive branch is computed.
        return text.prompt_embeds[-self._config.num_branches :]

    @torch.inference_mode()
    def render(self, transition: Transition, conditions: Conditions) -> Tensor:
        """Frames (F, 3, H, W) in [-1, 1]; the ends are the keyframes as the VAE gives them back.

        Raises:
            ValueError: the VAE cannot hold frames of this size.
        """
        keyframes = torch.stack([transition.first, transition.last])
        self._check_size(keyframes)
        anchors = self._encode(keyframes)[None].transpose(1, 2)
        shape = (*anchors.shape[:2], transition.num_frames, *anchors.shape[3:])
        noise = draw_noise(shape, transition.seed).to(anchors.device)
        with self._reading_keyframes(transition.num_frames):
            latents = denoise_clips(
                self._unet,
                self._scheduler,
                noise=noise,
                keyframes=anchors,
                conditions=conditions,
                config=self._config,
            )
        return self._decode(latents[0].transpose(0, 1))

    def _check_size(self, keyframes: Tensor) -> None:
        height, width = keyframes.shape[-2:]
        factor = self._pipeline.vae_scale_factor
        if height % factor or width % factor:
            raise ValueError(
                f"keyframes are {width} x {height} pixels, both must be multiples of {factor}"
            )

    def _reading_keyframes(self, num_frames: int) -> AbstractContextManager[None]:
        if self._attention is None:
            return nullcontext()
        assert_installed(self._pipeline.unet, self._attention)

        # Temporal attention sees one position at a time: it carries poses along, not clothes. With
        # the keyframes' tokens in spatial attention the clothes hold; this goes beyond the paper.
        def every_token(num_tokens: int) -> Tensor:
            return torch.arange(num_tokens).expand(num_frames, -1)

        views = readers(num_frames, (0, num_frames - 1))
        return self._attention.following(LockStep(views, every_token))

    def _encode(self, images: Tensor) -> Tensor:
        vae = self._pipeline.vae
        # The mode, not a sample: the same picture is the same anchor in both of its clips.
        mode: Tensor = vae.encode(images.to(vae.device, vae.dtype)).latent_dist.mode()
        return mode.float().mul(vae.config.scaling_factor)

    def _decode(self, latents: Tensor) -> Tensor:
        vae = self._pipeline.vae
        scaled = (latents / vae.config.scaling_factor).to(vae.dtype)
        batches = scaled.split(self._config.decode_batch_size)
        decoded = []
        for batch in batches:
            decoded.append(vae.decode(batch).sample.float().cpu())
            beat()
        return torch.cat(decoded)
