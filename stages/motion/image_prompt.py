"""A renderer of public weights only: IP-Adapter tokens, interpolated between the keyframes.

The stand-in for the Semantic Motion Predictor where no trained one is at hand.

Axes: G guidance branches, F frames, E channels of an image embedding, T image tokens, D channels
of cross-attention.
"""

from copy import copy
from typing import Self

import torch
from torch import Tensor

from storyreel.stages.models.image_encoder import ImageEncoder
from storyreel.stages.models.ip_adapter import load_ip_adapter
from storyreel.stages.motion.config import MotionConfig
from storyreel.stages.motion.denoise import rows_of_frames, rows_of_text
from storyreel.stages.motion.frames import to_pixels
from storyreel.stages.motion.parts import load_motion_pipeline
from storyreel.stages.motion.renderer import Transition
from storyreel.stages.motion.sampler import ClipSampler


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


class ImagePromptRenderer:
    """CLIP image embeddings, turned from keyframe to keyframe, as image prompts of the frames."""

    def __init__(self, config: MotionConfig) -> None:
        """Load the models: motion modules, then the IP-Adapter, then keyframe reading."""
        pipeline = load_motion_pipeline(config)
        self._image_encoder = ImageEncoder(
            config.model, config.image_encoder, config.feature_extractor
        )
        self._projection = load_ip_adapter(
            pipeline, config.ip_adapter, self._image_encoder.embedding_dim
        )
        self._sampler = ClipSampler(pipeline, config)
        self._config = config

    def smaller(self) -> Self:
        """The same renderer with less memory."""
        smaller = copy(self)
        smaller._sampler = self._sampler.smaller()
        return smaller

    @property
    def max_frames(self) -> int:
        """The most frames that the motion adapter supports."""
        return self._sampler.max_frames

    def __call__(self, transition: Transition) -> Tensor:
        """Render (F, 3, H, W)."""
        text = rows_of_text(self._sampler.encode_text(transition), transition.num_frames)
        return self._sampler.render(transition, (text, [self._image_tokens(transition)]))

    @torch.inference_mode()
    def _image_tokens(self, transition: Transition) -> Tensor:
        """(G * F, 1, T, D); the negative branch gets the adapter's empty image."""
        ends = to_pixels(torch.stack([transition.first, transition.last]))
        first, last = self._image_encoder.embeds(ends)
        embeds = slerp(first, last, transition.num_frames).to(first.dtype)
        branches = torch.stack([torch.zeros_like(embeds), embeds])[-self._config.num_branches :]
        rows = rows_of_frames(branches[:, None, :, None])
        tokens: Tensor = self._projection([rows])[0]
        return tokens
