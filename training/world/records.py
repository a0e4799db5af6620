"""Tables and records of the contents of a picture of the world."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Colour = tuple[int, int, int]

CHARACTERS = (
    "girl", "boy", "old man", "robot", "cat", "bear", "rabbit", "fox", "penguin", "dog",
)  # fmt: skip
ACTIONS = (
    "walking", "running", "jumping", "waving", "dancing", "sitting", "sleeping", "reading",
    "eating", "flying a kite",
)  # fmt: skip
PLACES = (
    "park", "beach", "forest", "city street",
    "kitchen", "bedroom", "snowy mountain", "castle garden", "library", "desert",
)  # fmt: skip
TIMES = ("day", "sunset", "night")
PALETTE: MappingProxyType[str, Colour] = MappingProxyType(
    {
        "red": (218, 36, 44),
        "orange": (255, 132, 12),
        "yellow": (255, 218, 30),
        "green": (18, 140, 58),
        "blue": (34, 84, 220),
        "purple": (142, 48, 186),
        "white": (250, 250, 246),
        "black": (36, 34, 42),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outfit:
    """Colour names (keys of PALETTE) of coat, trousers or skirt, and hat or scarf."""

    top: str
    bottom: str
    hat: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One upright figure: `phase` in [0, 1) of its action's cycle, `x` of its centre in [0, 1],
    `scale` its height as a share of the picture's, `facing` -1 (left) or +1 (right)."""

    character: str
    outfit: Outfit
    action: str
    phase: float
    x: float
    scale: float
    facing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """`pan_x` in widths of the picture (positive looks right), `zoom` >= 1."""

    pan_x: float = 0.0
    zoom: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One picture. `layout_seed` places trees, furniture and the like. A `mirror` or a framed
    `portrait` stands on the side the first figure leaves free; a portrait shows another scene."""

    place: str
    time_of_day: str
    layout_seed: int
    figures: tuple[Figure, ...]
    camera: Camera
    mirror: bool = False
    portrait: "Scene | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """Somebody who can be seen in a picture, in person or as a `mirror` or `portrait` image.

    `x` and `y` (downwards) are the middle of the body and `size` the height of the standing
    figure without hat and ears, all in [0, 1] of the picture, as the camera sees it."""

    where: Literal["figure", "mirror", "portrait"]
    character: str
    action: str
    outfit: Outfit
    x: float
    y: float
    size: float
    facing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One scene per frame. `mixes[i]` in [0, 1] says how far frame i has come from the place and
    the action of the first scene to those of the last; it stays 0 inside one place."""

    scenes: tuple[Scene, ...]
    mixes: tuple[float, ...]
