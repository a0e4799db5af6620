"""CLIPSIM and perceptual distances on hand-made and on real features."""

import numpy as np
import pytest
import torch

from storyreel.stages.scoring.measures.encoder import ClipEncoder
from storyreel.stages.scoring.measures.video import (
    FrameSimilarity,
    ImageFeatures,
    frame_similarity,
    perceptual_distance,
)
from tests.stages.scoring.conftest import scene


def features(embeds: list[list[float]]) -> ImageFeatures:
    """Features whose two patch tokens are the embedding itself, behind a class token of zeros."""
    rows = torch.tensor(embeds)
    tokens = torch.stack([torch.zeros_like(rows), rows, rows], dim=1)
    return ImageFeatures(embeds=rows, layers=(tokens, 5 * tokens))


def test_the_first_frame_is_compared_with_all_others_and_each_with_the_next() -> None:
    turning = features([[1.0, 0], [0, 1], [-1, 0]])
    assert frame_similarity([turning]) == FrameSimilarity(
        clipsim_first=pytest.approx(-0.5),
        clipsim_frames=pytest.approx(0.0),
        perceptual_first=pytest.approx(3.0),
        perceptual_frames=pytest.approx(2.0),
    )


def test_how_frames_fall_into_batches_changes_nothing() -> None:
    whole = features(torch.randn(7, 4, generator=torch.Generator().manual_seed(0)).tolist())
    parts = [whole[0:1], whole[1:4], whole[4:7]]
    one, other = frame_similarity([whole]), frame_similarity(parts)
    assert one.clipsim_frames == pytest.approx(other.clipsim_frames)
    assert one.perceptual_frames == pytest.approx(other.perceptual_frames)
    assert one.clipsim_first == pytest.approx(other.clipsim_first)
    assert one.perceptual_first == pytest.approx(other.perceptual_first)


def test_a_clip_of_one_frame_is_all_alike_and_none_is_refused() -> None:
    alone = frame_similarity([features([[1.0, 0]])])
    assert (alone.clipsim_first, alone.perceptual_frames) == (1, 0)
    with pytest.raises(ValueError, match="without a frame"):
        frame_similarity([])


def test_every_layer_counts_the_same_however_large_its_numbers_are() -> None:
    small, large = torch.tensor([[[0.0, 0], [1, 0]]]), torch.tensor([[[0.0, 0], [0, 1]]])
    loud = [small, 100 * small], [small, 100 * large]
    assert perceptual_distance(*loud).tolist() == pytest.approx([1.0])


def test_tokens_of_zeros_give_a_number() -> None:
    blank = [torch.zeros(2, 3, 4)]
    assert perceptual_distance(blank, blank).tolist() == [0, 0]


def test_a_real_encoder_sees_frozen_frames_as_equal_and_others_as_different(
    encoder: ClipEncoder,
) -> None:
    still = frame_similarity(encoder.features([scene(1)] * 5))
    changing = frame_similarity(encoder.features([scene(seed) for seed in range(5)]))
    assert still.clipsim_frames == pytest.approx(1, abs=1e-5)
    assert still.perceptual_first == pytest.approx(0, abs=1e-5)
    assert changing.clipsim_first < 1 - 1e-4
    assert 4 >= changing.perceptual_first > 1e-4


def test_a_blank_frame_gives_a_number(encoder: ClipEncoder) -> None:
    found = frame_similarity(encoder.features([np.zeros((20, 30, 3), np.uint8), scene(1)]))
    assert np.isfinite(found.clipsim_first)
    assert np.isfinite(found.perceptual_first)
