"""The procedural world, drawn once and cached as memory-mapped arrays.

Axes: N images or clips, F frames, H height, W width.
"""

import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor

from storyreel.training import world
from storyreel.training.config import WorldConfig
from storyreel.training.parallel import make_once

logger = logging.getLogger(__name__)

CAPTIONS_PER_PICTURE = 3
CLASSES = ("character", "action", "place", "time", "top", "bottom", "hat", "count", "column")
"""What `world.describe` tells, and in which of `NUM_COLUMNS` columns the first figure stands."""
NUM_COLUMNS = 8
FIGURE = ("x", "y", "character", "action", "top", "bottom", "hat")
"""What is kept of everybody who can be seen: the middle in [0, 1], and class indices."""

Drawn = tuple[NDArray[np.uint8], list[str], list[int], list[list[float]]]
"""Pixels, captions, classes, figures."""
DrawnPart = tuple[
    range, NDArray[np.uint8], list[list[str]], list[list[int]], list[list[list[float]]]
]
"""The same of several pictures, after which ones they are."""
Draw = Callable[[np.random.Generator, WorldConfig], Drawn]
"""Draws one picture."""
Labels = dict[str, list[Any]]
"""`captions`, `classes` and `figures`, as the cache keeps them."""
PART_SIZE = 100
"""Pictures one worker draws at a time; each has a seed of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """Images or clips of the world with their captions."""

    pixels: NDArray[np.uint8]
    """(N, H, W, 3) images or (N, F, H, W, 3) clips."""
    captions: list[list[str]]
    """`CAPTIONS_PER_PICTURE` wordings of each."""
    classes: NDArray[np.int64]
    """(N, len(CLASSES)) class indices, -1 where there is none; empty for clips."""
    figures: list[list[list[float]]]
    """Of each picture a row of `FIGURE` for everybody in it, images in a mirror or a portrait
    included; none for clips."""
    num_training: int
    """The pictures from here on are held out."""


def draw_image(rng: np.random.Generator, config: WorldConfig) -> Drawn:
    """Draw one image: pixels (H, W, 3), captions, classes, figures."""
    scene = world.sample_scene(rng)
    captions = [world.caption(scene, rng) for _ in range(CAPTIONS_PER_PICTURE)]
    column = int(scene.figures[0].x * NUM_COLUMNS) if scene.figures else -1
    described = {**world.describe(scene), "column": min(column, NUM_COLUMNS - 1)}
    classes = [described[name] for name in CLASSES]
    figures = [figure_row(sighting) for sighting in world.figures_of(scene)]
    return world.draw(scene, config.image_size), captions, classes, figures


def figure_row(sighting: world.Sighting) -> list[float]:
    """The values of `FIGURE` for one visible figure."""
    outfit, colours = sighting.outfit, tuple(world.PALETTE)
    return [
        sighting.x,
        sighting.y,
        world.CHARACTERS.index(sighting.character),
        world.ACTIONS.index(sighting.action),
        *(colours.index(part) for part in (outfit.top, outfit.bottom, outfit.hat)),
    ]


def draw_clip(rng: np.random.Generator, config: WorldConfig) -> Drawn:
    """Draw one clip: pixels (F, H, W, 3), captions, no classes, no figures."""
    clip = world.sample_clip(rng, config.num_frames)
    captions = [world.clip_caption(clip, rng) for _ in range(CAPTIONS_PER_PICTURE)]
    return world.draw_clip(clip, config.image_size), captions, [], []


def _draw_part(part: range, draw: Draw, seed: int, config: WorldConfig) -> DrawnPart:
    drawn = [draw(np.random.default_rng((seed, index)), config) for index in part]
    pixels, captions, classes, figures = zip(*drawn, strict=True)
    return part, np.stack(pixels), list(captions), list(classes), list(figures)


def _parts(count: int) -> Iterator[range]:
    for start in range(0, count, PART_SIZE):
        yield range(start, min(start + PART_SIZE, count))


def _draw_all(path: Path, draw: Draw, count: int, *, seed: int, config: WorldConfig) -> Labels:
    frames = () if draw is draw_image else (config.num_frames,)
    shape = (count, *frames, config.image_size, config.image_size, 3)
    pixels = open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    labels: Labels = {"captions": [], "classes": [], "figures": []}
    with ProcessPoolExecutor(config.num_workers) as pool:
        work = partial(_draw_part, draw=draw, seed=seed, config=config)
        for part, part_pixels, captions, classes, figures in pool.map(work, _parts(count)):
            pixels[part.start : part.stop] = part_pixels
            labels["captions"] += captions
            labels["classes"] += classes
            labels["figures"] += figures
    pixels.flush()
    return labels


def _open(path: Path, draw: Draw, count: int, *, seed: int, config: WorldConfig) -> Pictures:
    labels_path = path.with_suffix(".json")

    def make(temporary: Path) -> None:
        labels = _draw_all(temporary, draw, count, seed=seed, config=config)
        labels_path.write_text(json.dumps(labels), encoding="utf-8")
        logger.info("drew %d to %s", count, path.name)

    make_once(path, make)
    pixels = np.load(path, mmap_mode="r")
    labels = json.loads(labels_path.read_text(encoding="utf-8"))
    return Pictures(
        pixels=pixels,
        captions=labels["captions"],
        classes=np.array(labels["classes"], dtype=np.int64),
        figures=labels["figures"],
        num_training=len(pixels) - config.num_held_out,
    )


def open_images(directory: Path, config: WorldConfig, *, seed: int) -> Pictures:
    """Single images; drawn first if the cache has none."""
    path = directory / "images.npy"
    return _open(path, draw_image, config.num_images, seed=seed, config=config)


def open_clips(directory: Path, config: WorldConfig, *, seed: int) -> Pictures:
    """Clips; drawn first if the cache has none."""
    path = directory / "clips.npy"
    return _open(path, draw_clip, config.num_clips, seed=seed + 1, config=config)


def to_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """(..., H, W, 3) bytes to (..., 3, H, W) float in [-1, 1]."""
    return torch.from_numpy(np.array(pixels)).movedim(-1, -3).float() / 127.5 - 1


def to_pixels(images: Tensor) -> NDArray[np.uint8]:
    """(..., 3, H, W) in [-1, 1] to (..., H, W, 3) bytes."""
    bytes_ = ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return bytes_.movedim(-3, -1).cpu().numpy()


def encode_once(
    path: Path, pictures: Pictures, encode: Callable[[Tensor], Tensor], *, batch_size: int = 64
) -> Tensor:
    """Encode every picture or frame of a cache once and keep the answer.

    Args:
        path: where the (N, ...) or (N, F, ...) float16 array is kept.
        pictures: the cache.
        encode: (B, 3, H, W) in [-1, 1] to (B, ...).

    Returns:
        The array as a CPU tensor.
    """

    def make(temporary: Path) -> None:
        frames = pictures.pixels.reshape(-1, *pictures.pixels.shape[-3:])
        encoded = _encode_all(frames, encode, batch_size)
        np.save(temporary, encoded.reshape(*pictures.pixels.shape[:-3], *encoded.shape[1:]).numpy())
        logger.info("encoded %d pictures to %s", len(frames), path.name)

    make_once(path, make)
    return torch.from_numpy(np.load(path))


@torch.no_grad()
def _encode_all(
    frames: NDArray[np.uint8], encode: Callable[[Tensor], Tensor], batch_size: int
) -> Tensor:
    starts = range(0, len(frames), batch_size)
    batches = (to_tensor(frames[start : start + batch_size]) for start in starts)
    return torch.cat([encode(batch).half().cpu() for batch in batches])
