"""The paper's renderer: the Semantic Motion Predictor conditions a video UNet (section 3.2).

Axes: G guidance branches, F frames, L text tokens, N image tokens, C their channels, D channels of
cross-attention.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from storyreel.stages.models.image_encoder import ImageEncoder
from storyreel.stages.models.loading import load_part
from storyreel.stages.motion.config import MotionConfig, SemanticMotionConfig
from storyreel.stages.motion.denoise import rows_of_frames, rows_of_text
from storyreel.stages.motion.frames import to_pixels
from storyreel.stages.motion.parts import load_motion_pipeline
from storyreel.stages.motion.predictor import SemanticMotionPredictor
from storyreel.stages.motion.renderer import Transition, check_alike
from storyreel.stages.motion.sampler import ClipSampler, SamplingRenderer


def join_text_and_motion(text: Tensor, motion: Tensor) -> Tensor:
    """The paper's concat(T, P_i), what frame i cross-attends to.

    Args:
        text: (G, B, L, D).
        motion: (B, F, N, D), P_1 .. P_F; the same in each guidance branch.

    Returns:
        (G * B * F, L + N, D), the rows of the video UNet.
    """
    frames = rows_of_frames(motion.expand(len(text), *motion.shape))
    return torch.cat([rows_of_text(text, motion.shape[1]), frames], dim=1)


class SemanticMotionRenderer(SamplingRenderer):
    """CLIP image encoder, Semantic Motion Predictor, video UNet."""

    def __init__(self, config: MotionConfig, parts: SemanticMotionConfig) -> None:
        """Load the models.

        Raises:
            ValueError: the predictor was trained with another image encoder or video model.
        """
        pipeline = load_motion_pipeline(config, parts)
        self._sampler = ClipSampler(pipeline, config, parts)
        self._image_encoder = ImageEncoder(
            config.model, parts.image_encoder, parts.feature_extractor
        )
        self._predictor = load_part(SemanticMotionPredictor, parts.motion_predictor, config.model)
        num_tokens, token_dim = self._image_encoder.token_shape
        self._check_fit(
            image_token_dim=token_dim,
            num_tokens=num_tokens,
            cross_attention_dim=pipeline.unet.config.cross_attention_dim,
        )

    def _check_fit(self, **needed: int) -> None:
        for name, value in needed.items():
            if (trained := self._predictor.config[name]) != value:
                raise ValueError(
                    f"motion.renderer.motion_predictor: was trained for {name} {trained}, the"
                    f" configured image encoder and video model have {value}; they belong together"
                )

    @property
    def max_frames(self) -> int:
        """The most frames that both the motion adapter and the predictor support."""
        predictor_frames: int = self._predictor.config.max_frames
        return min(super().max_frames, predictor_frames)

    def __call__(self, transitions: Sequence[Transition]) -> list[Tensor]:
        """Render (F, 3, H, W) each."""
        check_alike(transitions)
        text = self._sampler.encode_text(transitions)
        motion = torch.cat([self._motion(one) for one in transitions])
        return self._sampler.render(transitions, join_text_and_motion(text, motion))

    @torch.inference_mode()
    def _motion(self, transition: Transition) -> Tensor:
        """P_1 .. P_F, (1, F, N, D)."""
        tokens = self._image_encoder.tokens(
            to_pixels(torch.stack([transition.first, transition.last]))
        )
        predicted = self._predictor(tokens[:1], tokens[1:], transition.num_frames)
        projected: Tensor = self._predictor.project(predicted)
        return projected
