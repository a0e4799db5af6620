"""Image prompts (IP-Adapter, arXiv 2308.06721): pictures beside the text in cross-attention.

Axes: P rows of the UNet (reference images and panels), I pictures that prompt a row, E channels of
a picture's embedding, T tokens of a picture, D channels of cross-attention.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from storyreel.stages.keyframes.config import ImagePromptConfig
from storyreel.stages.models.config import ModelConfig
from storyreel.stages.models.image_encoder import ImageEncoder
from storyreel.stages.models.ip_adapter import load_ip_adapter

Prompts = Sequence[tuple[int, ...]]
"""For each row, which of the pictures prompt it; perhaps none."""


class ImagePrompt:
    """An IP-Adapter in the UNet of a pipeline, and the encoder of its pictures."""

    def __init__(self, pipeline: Any, config: ImagePromptConfig, model: ModelConfig) -> None:
        """Load both; this replaces all attention processors of the UNet.

        Raises:
            ValueError: the adapter does not fit the UNet or the image encoder.
        """
        self._pipeline = pipeline
        self._scale = config.scale
        self._image_encoder = ImageEncoder(model, config.image_encoder, config.feature_extractor)
        self._projection = load_ip_adapter(pipeline, config, self._image_encoder.embedding_dim)

    @torch.inference_mode()
    def tokens(self, pictures: Sequence[Image.Image], prompts: Prompts) -> Tensor:
        """The image tokens of the rows, guidance branches first: (2, P, I * T, D).

        A row without a picture, and the negative branch of all rows, get the adapter's empty one.
        """
        projected = self._project(pictures)
        empty = len(pictures)
        positive = torch.tensor(of_one_length([row or (empty,) for row in prompts]))
        branches = torch.stack([torch.full_like(positive, empty), positive])
        return rearrange(projected[branches], "g p i t d -> g p (i t) d")

    def _project(self, pictures: Sequence[Image.Image]) -> Tensor:
        """The tokens of every picture, those of the empty one last: (len + 1, T, D)."""
        unet = self._pipeline.unet
        empty = torch.zeros(1, self._image_encoder.embedding_dim, device=unet.device)
        embeds = [self._image_encoder.embeds([np.asarray(picture)]) for picture in pictures]
        rows = torch.cat([*embeds, empty]).to(unet.dtype)
        (projected,) = self._projection([rows[:, None]])
        tokens: Tensor = projected[:, 0]
        return tokens

    @contextmanager
    def off(self) -> Iterator[None]:
        """Inside, the UNet renders as without the adapter."""
        self._pipeline.set_ip_adapter_scale(0.0)
        try:
            yield
        finally:
            self._pipeline.set_ip_adapter_scale(self._scale)


def of_one_length(prompts: Prompts) -> list[tuple[int, ...]]:
    """Repeat each row's pictures so that all rows have the same number of them.

    A softmax over all tokens several times is the softmax over them once.
    """
    length = math.lcm(*(len(row) for row in prompts))
    return [row * (length // len(row)) for row in prompts]
