from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from storyreel.stages.scoring.config import ScoringConfig
from storyreel.stages.scoring.measures.encoder import ClipEncoder
from tests.stages.tiny import save_tiny_clip

PARTS = ("text_encoder", "tokenizer", "image_encoder", "feature_extractor")
WHOLE: dict[str, Any] = {part: {"subfolder": ""} for part in PARTS}
"""Where the parts of a CLIP lie that is in one piece."""


def config_of(folder: Path, **settings: Any) -> ScoringConfig:
    return ScoringConfig.model_validate({"model": {"path": str(folder)}, **WHOLE, **settings})


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="session")
def encoder(clip_folder: Path) -> ClipEncoder:
    return ClipEncoder(config_of(clip_folder))


def scene(seed: int, *, figure: tuple[int, int] | None = None, side: int = 128) -> np.ndarray:
    """A made-up place: sky, ground and a dozen things, and perhaps a figure at (x, y)."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (side, side), tuple(map(int, rng.integers(140, 230, 3))))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, side * 2 // 3, side, side), fill=tuple(map(int, rng.integers(60, 140, 3))))
    for _ in range(14):
        x, y = map(int, rng.integers(0, side - 10, 2))
        width, height = map(int, rng.integers(8, 34, 2))
        colour = tuple(map(int, rng.integers(0, 256, 3)))
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((x, y, x + width, y + height), fill=colour)
    if figure is not None:
        draw_figure(draw, *figure)
    return np.asarray(image)


def draw_figure(draw: ImageDraw.ImageDraw, x: int, y: int) -> None:
    draw.ellipse((x + 4, y, x + 16, y + 12), fill=(240, 200, 170))
    draw.rectangle((x, y + 12, x + 20, y + 30), fill=(200, 20, 30))
    draw.rectangle((x + 2, y + 30, x + 18, y + 44), fill=(20, 30, 160))
