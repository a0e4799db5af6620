"""The Semantic Motion Predictor on tiny real weights."""

from pathlib import Path

import pytest
import torch

from storyreel.stages.motion.predictor import SemanticMotionPredictor, frame_features, interpolate


def tiny_predictor() -> SemanticMotionPredictor:
    torch.manual_seed(0)
    return SemanticMotionPredictor(
        image_token_dim=12,
        num_tokens=5,
        cross_attention_dim=8,
        hidden_dim=16,
        num_layers=2,
        num_heads=2,
        max_frames=8,
    ).eval()


def trained_predictor() -> SemanticMotionPredictor:
    predictor = tiny_predictor()
    torch.nn.init.normal_(predictor.out_proj.weight, std=0.1)
    return predictor


def keyframe_tokens(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, last = torch.randn(2, 3, 5, 12, generator=generator)
    return first, last


def test_interpolation_starts_and_ends_on_the_keyframes_in_even_steps() -> None:
    first, last = keyframe_tokens()
    tokens = interpolate(first, last, 5)
    assert tokens.shape == (3, 5, 5, 12)
    torch.testing.assert_close(tokens[:, 0], first)
    torch.testing.assert_close(tokens[:, -1], last)
    torch.testing.assert_close(tokens[:, 2], (first + last) / 2)


def test_an_untrained_predictor_is_the_interpolation() -> None:
    first, last = keyframe_tokens()
    torch.testing.assert_close(tiny_predictor()(first, last, 6), interpolate(first, last, 6))


def test_a_trained_predictor_adds_to_the_interpolation_in_every_frame() -> None:
    first, last = keyframe_tokens()
    change = trained_predictor()(first, last, 6) - interpolate(first, last, 6)
    assert (change.abs().amax(dim=(0, 2, 3)) > 1e-3).all()


def test_tokens_of_one_frame_depend_on_other_places_of_the_keyframes() -> None:
    first, last = keyframe_tokens()
    predictor = trained_predictor()
    moved = first.clone()
    moved[:, 4] = last[:, 0]
    change = predictor(moved, last, 6) - predictor(first, last, 6)
    assert change[:, 3, 0].abs().max() > 1e-5


def test_swapped_keyframes_do_not_simply_play_backwards_once_trained() -> None:
    first, last = keyframe_tokens()
    predictor = trained_predictor()
    forwards, backwards = predictor(first, last, 6), predictor(last, first, 6)
    assert not torch.allclose(forwards, backwards.flip(1), atol=1e-4)


def test_clips_of_a_batch_do_not_mix() -> None:
    first, last = keyframe_tokens()
    predictor = trained_predictor()
    together, alone = predictor(first, last, 4), predictor(first[1:2], last[1:2], 4)
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-5)


def test_frame_positions_are_relative_to_the_clip() -> None:
    options = {"device": torch.device("cpu"), "dtype": torch.float32}
    short, long = frame_features(3, **options), frame_features(5, **options)
    torch.testing.assert_close(short, long[::2])


def test_projected_tokens_fit_the_cross_attention() -> None:
    first, last = keyframe_tokens()
    predictor = tiny_predictor()
    assert predictor.project(predictor(first, last, 4)).shape == (3, 4, 5, 8)


@pytest.mark.parametrize("num_frames", [0, 1, 9])
def test_a_clip_length_out_of_range_is_refused_by_value(num_frames: int) -> None:
    first, last = keyframe_tokens()
    with pytest.raises(ValueError, match=f"num_frames is {num_frames}"):
        tiny_predictor()(first, last, num_frames)


def test_keyframes_of_different_shapes_are_refused() -> None:
    first, last = keyframe_tokens()
    with pytest.raises(ValueError, match="must agree"):
        interpolate(first, last[:, :4], 4)


def test_a_saved_predictor_loads_and_predicts_the_same(tmp_path: Path) -> None:
    first, last = keyframe_tokens()
    predictor = trained_predictor()
    predictor.save_pretrained(tmp_path)
    loaded = SemanticMotionPredictor.from_pretrained(tmp_path)
    assert (tmp_path / "diffusion_pytorch_model.safetensors").exists()
    torch.testing.assert_close(loaded(first, last, 4), predictor(first, last, 4))
