"""Keyframes as the frozen CLIP image encoder sees them.

Axes: B images, N tokens (class token first), C token channels, E channels of the projected image.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection

from stages.motion.config import MotionConfig
from stages.motion.frames import to_pixels
from stages.motion.parts import load_part, location


class ImageEncoder:
    """A CLIP image encoder and the preprocessing that belongs to it."""

    def __init__(self, config: MotionConfig) -> None:
        """Load both."""
        self._processor = CLIPImageProcessorPil.from_pretrained(
            **location(config.feature_extractor, config.model)
        )
        self._model = load_part(CLIPVisionModelWithProjection, config.image_encoder, config.model)

    def tokens(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] to the last hidden states (B, N, C)."""
        states: Tensor = self._encode(images).last_hidden_state
        return states

    def embeds(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] to projected embeddings (B, E)."""
        embeds: Tensor = self._encode(images).image_embeds
        return embeds

    @torch.inference_mode()
    def _encode(self, images: Tensor) -> Any:
        pixels = self._processor(list(to_pixels(images)), return_tensors="pt").pixel_values
        return self._model(pixel_values=pixels.to(self._model.device, self._model.dtype))
