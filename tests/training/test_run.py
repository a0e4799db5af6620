"""The whole training, tiny, on the real world and the real models."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import MotionAdapter, StableDiffusionPipeline, UNetMotionModel
from safetensors.torch import load_file
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from stages.motion.predictor import SemanticMotionPredictor
from training.__main__ import Run
from training.config import TrainingConfig
from training.export import export_family

SHORT = {"num_steps": 2, "batch_size": 2, "learning_rate": 1e-3}


def tiny_config() -> TrainingConfig:
    small = {"text_dim": 32, "image_dim": 32, "text_layers": 1, "image_layers": 1}
    return TrainingConfig.model_validate(
        {
            "num_threads": 1,
            "world": {
                "num_images": 12,
                "num_clips": 4,
                "num_frames": 4,
                "image_size": 64,
                "num_held_out": 2,
                "num_workers": 1,
            },
            "tokenizer": {"num_captions": 50},
            "vae": {**SHORT, "decoder": SHORT, "block_out_channels": [8, 8, 8, 8]},
            "clip": {**SHORT, "batch_size": 8, **small},
            "images": {**SHORT, "block_out_channels": [16, 32], "image_tokens_share": 0.5},
            "predictor": {**SHORT, "num_layers": 2, "hidden_dim": 32},
            "motion": {**SHORT, "num_steps": 4, "clip_batch_size": 2, "tokens_dropout": 0.5},
        }
    )


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def family(work: Path) -> Path:
    """A family that was trained from nothing."""
    output = work / "family"
    export_family(Run(tiny_config(), work).family, output)
    return output


def test_the_family_makes_a_picture_in_the_stock_pipeline(family: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(family)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a fox walks in the park", num_inference_steps=2).images[0]
    assert image.size == (64, 64)


def test_the_family_moves_a_clip_under_text_and_predicted_tokens(family: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(family)
    adapter = MotionAdapter.from_pretrained(family, subfolder="motion_adapter")
    predictor = SemanticMotionPredictor.from_pretrained(family, subfolder="motion_predictor")
    encoder = CLIPVisionModelWithProjection.from_pretrained(family, subfolder="image_encoder")
    extractor = CLIPImageProcessor.from_pretrained(family, subfolder="feature_extractor")
    unet = UNetMotionModel.from_unet2d(pipeline.unet, adapter)
    pixels = extractor([np.zeros((64, 64, 3), np.uint8)] * 2, return_tensors="pt").pixel_values
    first, last = encoder(pixels).last_hidden_state.split(1)
    projected = predictor.project(predictor(first, last, 4))[0]
    text = pipeline.encode_prompt("a fox", "cpu", 1, False)[0].expand(4, -1, -1)
    context = torch.cat([text, projected], dim=1)
    clip = torch.randn(1, unet.config.in_channels, 4, 8, 8)
    assert unet(clip, 500, encoder_hidden_states=context).sample.shape == clip.shape


def test_weights_are_half_precision_safetensors_and_nothing_is_pickled(family: Path) -> None:
    files = [path for path in family.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    for path in family.rglob("*.safetensors"):
        assert {weight.dtype for weight in load_file(path).values()} == {torch.float16}


def test_a_finished_run_trains_nothing_again(
    work: Path, family: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = {p: p.stat().st_mtime_ns for p in work.glob("*") if p.is_file()}
    with caplog.at_level(logging.INFO):
        export_family(Run(tiny_config(), work).family, tmp_path)
    assert {p: p.stat().st_mtime_ns for p in work.glob("*") if p.is_file()} == before
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert (tmp_path / weights).read_bytes() == (family / weights).read_bytes()


def test_every_shipped_training_config_is_valid() -> None:
    paths = sorted(Path("configs/training").glob("*.toml"))
    assert paths
    for path in paths:
        TrainingConfig.read(path)


def test_an_unknown_key_is_refused_by_name(tmp_path: Path) -> None:
    text = Path("configs/training/pocket.toml").read_text()
    path = tmp_path / "run.toml"
    path.write_text(text.replace("[vae]", "[vae]\nlearning_rte = 1"))
    with pytest.raises(ValueError, match="learning_rte"):
        TrainingConfig.read(path)
