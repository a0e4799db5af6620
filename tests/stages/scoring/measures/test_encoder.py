"""Any CLIP of the standard layouts judges; half a CLIP is refused."""

from pathlib import Path

import pytest
import torch
from transformers import CLIPModel, CLIPTextModelWithProjection, CLIPVisionModelWithProjection

from storyreel.stages.scoring.config import ScoringConfig
from storyreel.stages.scoring.measures.encoder import ClipEncoder
from tests.stages.scoring.conftest import config_of, scene
from tests.stages.tiny import (
    save_tiny_family,
    tiny_image_processor,
    tiny_text_encoder,
    tiny_tokenizer,
)

TEXTS = ["a fox walks", "a very long story " * 20, ""]


def save_in_parts(whole: Path, folder: Path) -> Path:
    """The same CLIP laid out as the pocket model is."""
    for kind, name in (
        (CLIPTextModelWithProjection, "text_encoder"),
        (CLIPVisionModelWithProjection, "image_encoder"),
    ):
        kind.from_pretrained(whole).save_pretrained(folder / name)
    tiny_tokenizer().save_pretrained(folder / "tokenizer")
    tiny_image_processor().save_pretrained(folder / "feature_extractor")
    return folder


def test_a_clip_in_one_piece_and_one_in_parts_see_what_transformers_sees(
    clip_folder: Path, encoder: ClipEncoder, tmp_path: Path
) -> None:
    in_parts = ClipEncoder(
        ScoringConfig.model_validate({"model": {"path": str(save_in_parts(clip_folder, tmp_path))}})
    )
    pictures = [scene(seed) for seed in range(3)]
    pixels = tiny_image_processor()(pictures, return_tensors="pt").pixel_values
    with torch.no_grad():
        reference = CLIPModel.from_pretrained(clip_folder).get_image_features(pixels).pooler_output
    for one in (encoder, in_parts):
        torch.testing.assert_close(one.pictures(pictures), reference)
    torch.testing.assert_close(in_parts.texts(TEXTS), encoder.texts(TEXTS))


def test_the_size_of_a_batch_changes_nothing(clip_folder: Path, encoder: ClipEncoder) -> None:
    single = ClipEncoder(config_of(clip_folder, batch_size=1))
    pictures = [scene(0), scene(1, side=96)]
    torch.testing.assert_close(single.pictures(pictures), encoder.pictures(pictures))
    torch.testing.assert_close(single.texts(TEXTS), encoder.texts(TEXTS))


def test_an_encoder_without_its_projection_is_refused_instead_of_drawn_at_random(
    tmp_path: Path,
) -> None:
    family = save_tiny_family(tmp_path)
    with pytest.raises(ValueError, match=r"text_encoder: .*lacks the weights text_projection"):
        ClipEncoder(ScoringConfig.model_validate({"model": {"path": str(family)}}))


def test_encoders_of_two_different_clips_are_refused(clip_folder: Path, tmp_path: Path) -> None:
    tiny_text_encoder(with_projection=True).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="text_encoder gives 32 channels and image_encoder 16"):
        ClipEncoder(config_of(clip_folder, text_encoder={"path": str(tmp_path)}))
