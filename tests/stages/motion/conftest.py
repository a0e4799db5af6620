"""A tiny family of real models with random weights, saved as the pocket model is."""

from pathlib import Path

import pytest
import torch
from diffusers import MotionAdapter
from torch import nn
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

from stages.model_config import ModelConfig
from stages.motion.predictor import SemanticMotionPredictor
from stages.motion.stage import MotionConfig
from tests.stages.tiny import TEXT_WIDTH, save_tiny_pipeline

MAX_FRAMES = 8
IMAGE_SIZE = 32
PATCH_SIZE = 16
NUM_TOKENS = 1 + (IMAGE_SIZE // PATCH_SIZE) ** 2


def shaken(model: nn.Module) -> nn.Module:
    """Random weights everywhere: fresh motion modules and predictors do nothing at all."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def tiny_adapter() -> MotionAdapter:
    """Motion modules for the tiny UNet that really mix the frames."""
    adapter = MotionAdapter(
        block_out_channels=(16, 32),
        motion_layers_per_block=1,
        motion_num_attention_heads=2,
        motion_norm_num_groups=4,
        motion_max_seq_length=MAX_FRAMES,
    )
    return shaken(adapter)


def tiny_image_encoder() -> CLIPVisionModelWithProjection:
    """A two-layer CLIP image encoder of 5 tokens."""
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
        projection_dim=16,
    )
    return shaken(CLIPVisionModelWithProjection(config))


def tiny_predictor() -> SemanticMotionPredictor:
    """A two-block predictor that changes the interpolation."""
    return shaken(
        SemanticMotionPredictor(
            image_token_dim=32,
            num_tokens=NUM_TOKENS,
            cross_attention_dim=TEXT_WIDTH,
            hidden_dim=32,
            num_layers=2,
            num_heads=2,
        )
    )


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny family."""
    folder = save_tiny_pipeline(tmp_path_factory.mktemp("models") / "tiny", "sd15")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        tiny_adapter().save_pretrained(folder / "motion_adapter")
        tiny_predictor().save_pretrained(folder / "motion_predictor")
        tiny_image_encoder().save_pretrained(folder / "image_encoder")
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": IMAGE_SIZE},
        crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    processor.save_pretrained(folder / "feature_extractor")
    return folder


@pytest.fixture(scope="session")
def config(family: Path) -> MotionConfig:
    """A short rendering with the tiny family."""
    return MotionConfig(
        model=ModelConfig(path=str(family)),
        num_frames=6,
        num_inference_steps=2,
        guidance_scale=3.0,
    )
