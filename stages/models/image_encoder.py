"""Pictures as a frozen CLIP image encoder sees them.

Axes: B images, N tokens (class token first), C token channels, E channels of the projected image.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection

from storyreel.stages.models.config import ModelConfig, PartConfig
from storyreel.stages.models.loading import load_part, location

Pictures = NDArray[np.uint8] | Sequence[NDArray[np.uint8]]
"""RGB pixels (height, width, 3), each of its own size."""


class ImageEncoder:
    """A CLIP image encoder and the preprocessing that belongs to it."""

    def __init__(
        self, model: ModelConfig, image_encoder: PartConfig, feature_extractor: PartConfig
    ) -> None:
        """Load both."""
        self._processor = CLIPImageProcessorPil.from_pretrained(
            **location(feature_extractor, model)
        )
        self._model = load_part(CLIPVisionModelWithProjection, image_encoder, model)

    @property
    def embedding_dim(self) -> int:
        """E."""
        width: int = self._model.config.projection_dim
        return width

    @property
    def token_shape(self) -> tuple[int, int]:
        """N and C."""
        config = self._model.config
        return 1 + (config.image_size // config.patch_size) ** 2, config.hidden_size

    def tokens(self, pictures: Pictures) -> Tensor:
        """B pictures to the last hidden states (B, N, C)."""
        states: Tensor = self._encode(pictures).last_hidden_state
        return states

    def embeds(self, pictures: Pictures) -> Tensor:
        """B pictures to projected embeddings (B, E)."""
        embeds: Tensor = self._encode(pictures).image_embeds
        return embeds

    def features(self, pictures: Pictures) -> tuple[Tensor, tuple[Tensor, ...]]:
        """B pictures to projected embeddings (B, E) and the hidden states of every block, each
        (B, N, C)."""
        encoded = self._encode(pictures, output_hidden_states=True)
        return encoded.image_embeds, encoded.hidden_states[1:]

    @torch.inference_mode()
    def _encode(self, pictures: Pictures, **options: bool) -> Any:
        pixels = self._processor(list(pictures), return_tensors="pt").pixel_values
        pixels = pixels.to(self._model.device, self._model.dtype)
        return self._model(pixel_values=pixels, **options)
