"""Similarity of the frames of a clip: CLIPSIM and perceptual distances (paper, Table 2).

Axes: B frames of a batch, F frames of a clip, N tokens, C channels, E channels of CLIP's space.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from storyreel.stages.scoring.measures.text_image import cosine


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFeatures:
    """Outputs of an image encoder for B pictures: `embeds` (B, E), not normalised, and tokens
    `layers` of every block, (B, N, C) each, the class token first."""

    embeds: Tensor
    layers: tuple[Tensor, ...]

    def __getitem__(self, rows: slice) -> "ImageFeatures":
        """Some of the pictures."""
        return ImageFeatures(
            embeds=self.embeds[rows], layers=tuple(layer[rows] for layer in self.layers)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameSimilarity:
    """Means over the pairs (first frame, each other one) and over neighbouring frames; similarities
    are cosines in [-1, 1], distances in [0, 4]."""

    clipsim_first: float
    clipsim_frames: float
    perceptual_first: float
    perceptual_frames: float


def perceptual_distance(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """Distances (B,) in [0, 4] of pictures by their tokens in every block of the image encoder.

    Computed as LPIPS (Zhang et al. 2018, arXiv 1801.03924, eq. 1): channels brought to unit length
    at every place of every layer, squared differences, mean over the places. It is not the LPIPS
    with AlexNet that published tables hold: the features are those of the configured transformer,
    which sees its input size only, layers are averaged instead of added, and no channel has a
    learned weight. Compare its values with each other only, under one encoder.

    Args:
        first, second: one (B, N, C) per layer, the class token first; it is left out.
    """
    distances = [
        (_unit(one[:, 1:]) - _unit(other[:, 1:])).square().sum(dim=-1).mean(dim=-1)
        for one, other in zip(first, second, strict=True)
    ]
    return torch.stack(distances).mean(dim=0)


def _unit(tokens: Tensor) -> Tensor:
    return F.normalize(tokens.float(), dim=-1)


def frame_similarity(batches: Iterable[ImageFeatures]) -> FrameSimilarity:
    """The similarities of a clip's frames, which come in order, a batch at a time.

    A clip of one frame is all alike. Only three frames' features are kept from batch to batch.

    Raises:
        ValueError: there is no frame.
    """
    first: ImageFeatures | None = None
    before: ImageFeatures | None = None
    found: list[Tensor] = []
    for batch in batches:
        first = first or batch[:1]
        found.append(_compare(first, before or first, batch))
        before = batch[-1:]
    if first is None:
        raise ValueError("a clip without a frame has no similarity")
    pairs = torch.cat(found, dim=1)[:, 1:]  # the first frame has no other before it
    if not pairs.shape[1]:
        return FrameSimilarity(
            clipsim_first=1.0, clipsim_frames=1.0, perceptual_first=0.0, perceptual_frames=0.0
        )
    similar_first, similar_frames, far_first, far_frames = pairs.mean(dim=1).tolist()
    return FrameSimilarity(
        clipsim_first=similar_first,
        clipsim_frames=similar_frames,
        perceptual_first=far_first,
        perceptual_frames=far_frames,
    )


def _compare(first: ImageFeatures, before: ImageFeatures, batch: ImageFeatures) -> Tensor:
    """(4, B) in the order of `FrameSimilarity`; `before` is the one frame before the batch."""
    previous = _joined(before, batch[:-1])
    return torch.stack(
        [
            cosine(first.embeds, batch.embeds),
            cosine(previous.embeds, batch.embeds),
            perceptual_distance(first.layers, batch.layers),
            perceptual_distance(previous.layers, batch.layers),
        ]
    ).cpu()


def _joined(first: ImageFeatures, second: ImageFeatures) -> ImageFeatures:
    layers = zip(first.layers, second.layers, strict=True)
    return ImageFeatures(
        embeds=torch.cat([first.embeds, second.embeds]),
        layers=tuple(torch.cat(pair) for pair in layers),
    )
