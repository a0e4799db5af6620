"""The procedural world: pictures and clips whose truth is known, with captions."""

from storyreel.training.world.captions import caption, clip_caption, describe, nouns
from storyreel.training.world.drawing import draw, draw_clip, figures_of, mask
from storyreel.training.world.records import (
    ACTIONS,
    CHARACTERS,
    PALETTE,
    PLACES,
    TIMES,
    Camera,
    Clip,
    Figure,
    Outfit,
    Scene,
    Sighting,
)
from storyreel.training.world.sampling import fitted, sample_clip, sample_scene

__all__ = [
    "ACTIONS",
    "CHARACTERS",
    "PALETTE",
    "PLACES",
    "TIMES",
    "Camera",
    "Clip",
    "Figure",
    "Outfit",
    "Scene",
    "Sighting",
    "caption",
    "clip_caption",
    "describe",
    "draw",
    "draw_clip",
    "figures_of",
    "fitted",
    "mask",
    "nouns",
    "sample_clip",
    "sample_scene",
]
