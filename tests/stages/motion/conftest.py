"""A short rendering with a tiny family of real models, saved as the pocket model is."""

from pathlib import Path

import pytest

from storyreel.stages.models.config import ModelConfig
from storyreel.stages.motion.stage import MotionConfig
from tests.stages.tiny import save_tiny_family


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny family."""
    return save_tiny_family(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def config(family: Path) -> MotionConfig:
    return MotionConfig(
        model=ModelConfig(path=str(family)),
        num_frames=6,
        num_inference_steps=2,
        guidance_scale=3.0,
    )
