"""A renderer of public weights only: IP-Adapter tokens, interpolated between the keyframes.

The stand-in for the Semantic Motion Predictor where no trained one is at hand.

Axes: G guidance branches, B clips, F frames, E channels of an image embedding, T image tokens,
D channels of cross-attention.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from storyreel.stages.models.image_encoder import ImageEncoder
from storyreel.stages.models.ip_adapter import load_ip_adapter
from storyreel.stages.motion.config import ImagePromptConfig, MotionConfig
from storyreel.stages.motion.denoise import rows_of_frames, rows_of_text
from storyreel.stages.motion.frames import to_pixels
from storyreel.stages.motion.parts import load_motion_pipeline
from storyreel.stages.motion.renderer import Transition, check_alike
from storyreel.stages.motion.renderers.baselines import slerp
from storyreel.stages.motion.sampler import ClipSampler, SamplingRenderer


class ImagePromptRenderer(SamplingRenderer):
    """CLIP image embeddings, turned from keyframe to keyframe, as image prompts of the frames."""

    def __init__(self, config: MotionConfig, parts: ImagePromptConfig) -> None:
        """Load the models: motion modules, then the IP-Adapter, then keyframe reading."""
        pipeline = load_motion_pipeline(config, parts)
        self._image_encoder = ImageEncoder(
            config.model, parts.image_encoder, parts.feature_extractor
        )
        self._projection = load_ip_adapter(
            pipeline, parts.ip_adapter, self._image_encoder.embedding_dim
        )
        self._sampler = ClipSampler(pipeline, config, parts)

    def __call__(self, transitions: Sequence[Transition]) -> list[Tensor]:
        """Render (F, 3, H, W) each."""
        check_alike(transitions)
        text = self._sampler.encode_text(transitions)
        images = torch.cat([self._embeds(one) for one in transitions])
        rows = rows_of_text(text, transitions[0].num_frames)
        return self._sampler.render(transitions, (rows, [self._image_tokens(images, len(text))]))

    @torch.inference_mode()
    def _embeds(self, transition: Transition) -> Tensor:
        """The embeddings of a clip's frames, (1, F, E)."""
        ends = to_pixels(torch.stack([transition.first, transition.last]))
        first, last = self._image_encoder.embeds(ends)
        return slerp(first, last, transition.num_frames).to(first.dtype)[None]

    @torch.inference_mode()
    def _image_tokens(self, embeds: Tensor, num_branches: int) -> Tensor:
        """(B, F, E) to (G * B * F, 1, T, D); the negative branch gets the adapter's empty image."""
        branches = torch.stack([torch.zeros_like(embeds), embeds])[-num_branches:]
        tokens: Tensor = self._projection([rows_of_frames(branches[..., None, :])])[0]
        return tokens
