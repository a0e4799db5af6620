"""Renders clips with a video UNet: text, anchored keyframes, keyframe reading, decoding.

Axes: G guidance branches (negative first), B clips, F frames, C latent channels, L text tokens,
D channels of cross-attention, N tokens of a frame in spatial self-attention.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from storyreel.stages.models.attention import LockStep, readers
from storyreel.stages.models.denoising import draw_noise
from storyreel.stages.models.loading import encode_prompts
from storyreel.stages.models.schedulers import build_scheduler
from storyreel.stages.models.unet_attention import assert_installed, install_attention
from storyreel.stages.motion.autoencoder import Autoencoder
from storyreel.stages.motion.config import MotionConfig, VideoUNetConfig
from storyreel.stages.motion.denoise import BranchByBranch, Conditions, Denoising, denoise_clips
from storyreel.stages.motion.renderer import Transition


class Control(Protocol):
    """Something beside the UNet that knows the keyframes."""

    def guiding(self, unet: Any, keyframes: Tensor, num_frames: int) -> Any:
        """`unet` as it predicts clips of these keyframes' latents (B, C, 2, h, w)."""


class ClipSampler:
    """Samples the frames between keyframes, whatever conditions the UNet."""

    def __init__(
        self,
        pipeline: Any,
        config: MotionConfig,
        video: VideoUNetConfig,
        control: Control | None = None,
    ) -> None:
        """Take over a pipeline whose UNet is a finished `UNetMotionModel`.

        Everything that changes attention processors must have happened before.
        """
        self.max_frames: int = pipeline.unet.config.motion_max_seq_length
        self._pipeline = pipeline
        self._config = config
        self._anchor = video.anchor
        self._control = control
        self._autoencoder = Autoencoder(pipeline.vae, config.decode_batch_size)
        self._scheduler = build_scheduler(video.scheduler, pipeline.scheduler)
        self._attention = install_attention(pipeline.unet) if video.read_keyframes else None
        self._branch_by_branch = False

    def smaller(self) -> "ClipSampler":
        """The same sampler with less memory: one frame, or one guidance branch, in a model call."""
        smaller = copy(self)
        smaller._autoencoder = self._autoencoder.smaller()
        smaller._branch_by_branch = True
        return smaller

    def denoising(self, transitions: Sequence[Transition]) -> Denoising:
        """How the clips of these transitions are denoised."""
        own = transitions[0].guidance_scale
        return Denoising(
            num_inference_steps=self._config.num_inference_steps,
            guidance_scale=self._config.guidance_scale if own is None else own,
            anchor=self._anchor,
        )

    def encode_text(self, transitions: Sequence[Transition]) -> Tensor:
        """The texts of all guidance branches, (G, B, L, D).

        Raises:
            ValueError: some texts are so long that they are read in more chunks than others.
        """
        # One by one: beside a longer text a short one would be read otherwise than alone.
        texts = [
            encode_prompts(self._pipeline, [one.text], [one.negative_prompt]).prompt_embeds
            for one in transitions
        ]
        if len(lengths := sorted({text.shape[2] for text in texts})) > 1:
            raise ValueError(f"texts of one call are of {lengths} tokens, must be of one length")
        # Without guidance only the positive branch is computed.
        return torch.cat(texts, dim=1)[-self.denoising(transitions).num_branches :]

    @torch.inference_mode()
    def render(self, transitions: Sequence[Transition], conditions: Conditions) -> list[Tensor]:
        """Frames (F, 3, H, W) in [-1, 1]; the ends are the keyframes as the VAE gives them back.

        Args:
            transitions: B of them.
            conditions: rows of all branches and clips, frames innermost.

        Raises:
            ValueError: the VAE cannot hold frames of this size.
        """
        anchors = self._autoencoder.encode_keyframes(transitions)
        num_frames = transitions[0].num_frames
        shape = (anchors.shape[1], num_frames, *anchors.shape[3:])
        noise = torch.stack([draw_noise(shape, one.seed) for one in transitions])
        how = self.denoising(transitions)
        with self._reading_keyframes(num_frames):
            latents = denoise_clips(
                self._unet(anchors, num_frames, how.num_branches),
                self._scheduler,
                noise=noise.to(anchors.device),
                keyframes=anchors,
                conditions=conditions,
                how=how,
            )
        return [self._autoencoder.decode(clip.transpose(0, 1)) for clip in latents]

    def _unet(self, anchors: Tensor, num_frames: int, num_branches: int) -> Any:
        unet = self._pipeline.unet
        if self._control is not None:
            unet = self._control.guiding(unet, anchors, num_frames)
        return BranchByBranch(unet, num_branches) if self._branch_by_branch else unet

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


class SamplingRenderer:
    """What the renderers have in common whose frames a `ClipSampler` makes."""

    _sampler: ClipSampler

    def smaller(self) -> Self:
        """The same renderer with less memory."""
        smaller = copy(self)
        smaller._sampler = self._sampler.smaller()
        return smaller

    @property
    def max_frames(self) -> int:
        """The most frames that the motion adapter supports."""
        return self._sampler.max_frames
