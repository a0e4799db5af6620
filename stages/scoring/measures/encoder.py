"""The CLIP that judges: texts and pictures into one space.

Axes: B texts or pictures, E channels of CLIP's shared space.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from storyreel.stages.models.image_encoder import ImageEncoder
from storyreel.stages.models.loading import load_part, location
from storyreel.stages.scoring.config import ScoringConfig
from storyreel.stages.scoring.measures.video import ImageFeatures

Picture = NDArray[np.uint8]
T = TypeVar("T")


class ClipEncoder:
    """Both encoders of a CLIP with what prepares their input; bounded batches."""

    def __init__(self, config: ScoringConfig) -> None:
        """Load them.

        Raises:
            OSError: a part is not there.
            ValueError: a part lacks weights, or texts and pictures do not come into one space.
        """
        self._batch_size = config.batch_size
        self._tokenizer = CLIPTokenizer.from_pretrained(**location(config.tokenizer, config.model))
        self._text = load_part(CLIPTextModelWithProjection, config.text_encoder, config.model)
        self._image = ImageEncoder(config.model, config.image_encoder, config.feature_extractor)
        text_dim, image_dim = self._text.config.projection_dim, self._image.embedding_dim
        if text_dim != image_dim:
            raise ValueError(
                f"scoring: text_encoder gives {text_dim} channels and image_encoder {image_dim};"
                " they must be the two of one CLIP"
            )

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Embeddings (B, E) of texts, not normalised; beyond the model's length they are cut."""
        return torch.cat([self._embed_texts(batch) for batch in _batched(texts, self._batch_size)])

    def pictures(self, pictures: Iterable[Picture]) -> Tensor:
        """Embeddings (B, E), not normalised, of pictures, uint8 (H, W, 3) each."""
        batches = _batched(pictures, self._batch_size)
        return torch.cat([self._image.embeds(batch).float().cpu() for batch in batches])

    def features(self, pictures: Iterable[Picture]) -> Iterator[ImageFeatures]:
        """Embeddings and tokens of pictures, uint8 (H, W, 3) each, a batch at a time."""
        for batch in _batched(pictures, self._batch_size):
            embeds, layers = self._image.features(batch)
            yield ImageFeatures(embeds=embeds, layers=layers)

    @torch.inference_mode()
    def _embed_texts(self, texts: Sequence[str]) -> Tensor:
        tokens = self._tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self._text.config.max_position_embeddings,
            return_tensors="pt",
        ).to(self._text.device)
        embeds: Tensor = self._text(**tokens).text_embeds
        return embeds.float().cpu()


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
