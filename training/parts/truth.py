"""The estimator of what a picture of the world shows, trained on pictures whose truth is known.

Rendered pictures are softer and noisier than drawn ones, so that it learns on pictures that were
blurred, tinted, roughened and sent through the autoencoder.

Axes: B pictures, M figures of a picture, Y and X cells of the estimator's grid, K classes.
"""

import copy
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from storyreel.stages.scoring.measures.truth import MAX_FIGURES, Evidence, Seen, TruthEstimator
from storyreel.stages.scoring.records import SeenFigure
from storyreel.training import world
from storyreel.training.checkpoints import Trainer
from storyreel.training.config import TrainingConfig, TruthConfig
from storyreel.training.data import CLASSES, FIGURE, Pictures, to_pixels, to_tensor
from storyreel.training.parallel import make_once
from storyreel.training.stories import held_out_rng
from storyreel.training.world import ACTIONS, CHARACTERS, PALETTE, PLACES, TIMES, Scene

logger = logging.getLogger(__name__)

SPREAD = 0.6
"""Standard deviation, in cells, of the bump around a figure's middle."""
NEAR = 0.3
"""Cells whose bump is at least so high must name the figure."""
MAX_DISTANCE = 0.2
"""A figure that is found farther from its place, in widths of the picture, counts as missed."""
WHO = ("character", "action")
"""The fields of `FIGURE` that describe the figure itself; the others describe its outfit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """Targets of the estimator's loss."""

    figures: Tensor
    """(B, M, len(FIGURE)), the rows of nobody -1."""
    place: Tensor
    """(B,) class indices."""
    time: Tensor
    """(B,) class indices."""

    def __getitem__(self, indices: Tensor) -> "Truth":
        return Truth(
            figures=self.figures[indices], place=self.place[indices], time=self.time[indices]
        )

    def to(self, device: torch.device) -> "Truth":
        """The same on another device."""
        return Truth(
            figures=self.figures.to(device), place=self.place.to(device), time=self.time.to(device)
        )


def truth_of(pictures: Pictures) -> Truth:
    """The truth of all pictures of a cache."""
    figures = torch.full((len(pictures.figures), MAX_FIGURES, len(FIGURE)), -1.0)
    for index, rows in enumerate(pictures.figures):
        if rows:
            figures[index, : len(rows)] = torch.tensor(rows)
    classes = torch.from_numpy(pictures.classes)
    return Truth(
        figures=figures,
        place=classes[:, CLASSES.index("place")],
        time=classes[:, CLASSES.index("time")],
    )


def build_estimator(config: TruthConfig, image_size: int) -> TruthEstimator:
    """An untrained estimator of the world's tables."""
    estimator: TruthEstimator = TruthEstimator(
        characters=CHARACTERS,
        actions=ACTIONS,
        places=PLACES,
        times=TIMES,
        colours=tuple(PALETTE),
        image_size=image_size,
        channels=config.channels,
        blocks=config.blocks,
    )
    return estimator


def bumps(figures: Tensor, side: int) -> Tensor:
    """A Gaussian around the middle of each figure, at most 1: (B, M, side, side)."""
    cells = (torch.arange(side, device=figures.device) + 0.5) / side
    across = (cells - figures[..., 0, None]).square()
    down = (cells - figures[..., 1, None]).square()
    squared = (across[:, :, None, :] + down[:, :, :, None]) * side**2
    there = figures[..., 2, None, None] >= 0
    return torch.exp(-squared / (2 * SPREAD**2)) * there


def truth_loss(evidence: Evidence, truth: Truth) -> Tensor:
    """CenterNet's focal loss of the grid, and cross entropies of what the cells and scene name."""
    heights, owners = bumps(truth.figures, evidence.objectness.shape[-1]).max(dim=1)
    loss = _focal_loss(evidence.objectness.float(), heights)
    picture, row, column = (heights >= NEAR).nonzero(as_tuple=True)
    named = truth.figures[picture, owners[picture, row, column]].long()
    for name, logits in evidence.figures.items():
        if len(picture):
            chosen = logits[picture, :, row, column].float()
            loss = loss + F.cross_entropy(chosen, named[:, FIGURE.index(name)])
    for name, logits in evidence.scene.items():
        loss = loss + 0.5 * F.cross_entropy(logits.float(), getattr(truth, name))
    return loss


def _focal_loss(logits: Tensor, heights: Tensor) -> Tensor:
    """Equation 1 of CenterNet; the cells nearest to a figure's middle are its positives."""
    highest = F.max_pool2d(heights[:, None], 3, stride=1, padding=1)[:, 0]
    middle = (heights == highest) & (heights >= NEAR)
    missed = (1 - logits.sigmoid()).square() * F.logsigmoid(logits) * middle
    wrong = (1 - heights).pow(4) * logits.sigmoid().square() * F.logsigmoid(-logits) * ~middle
    return -(missed + wrong).sum() / middle.sum().clamp(min=1)


def spoil(images: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures (B, 3, H, W) in [-1, 1] as a renderer might give them: softened, tinted, roughened,
    each by another amount."""

    def draw(low: float, high: float, channels: int = 1) -> Tensor:
        shape = (len(images), channels, 1, 1)
        return low + (high - low) * torch.rand(shape, generator=generator)

    soft = F.avg_pool2d(F.pad(images, (2, 2, 2, 2), mode="replicate"), 5, stride=1)
    spoiled = torch.lerp(images, soft, draw(-0.4, 0.9).clamp(min=0))
    spoiled = spoiled * draw(0.9, 1.08, 3) + draw(-0.06, 0.06, 3)
    noise = torch.randn(images.shape, generator=generator)
    return (spoiled + draw(0, 0.1) * noise).clamp(-1, 1)


def turn_over(images: Tensor, truth: Truth, chosen: Tensor) -> tuple[Tensor, Truth]:
    """Mirror the pictures that are `chosen`, (B,) of bool, sideways, and their truth."""
    figures = truth.figures.clone()
    figures[chosen, :, FIGURE.index("x")] = 1 - figures[chosen, :, FIGURE.index("x")]
    mirrored = torch.where(chosen[:, None, None, None], images.flip(-1), images)
    return mirrored, Truth(figures=figures, place=truth.place, time=truth.time)


@dataclass(frozen=True, slots=True, kw_only=True)
class TruthLoss:
    """The loss of a random batch of spoiled pictures."""

    estimator: TruthEstimator
    pictures: Pictures
    reconstructed: NDArray[np.uint8]
    """The first training pictures as the autoencoder gives them back."""
    truth: Truth
    config: TruthConfig

    def __call__(self, generator: torch.Generator) -> Tensor:
        """Draw a batch from the CPU generator; return its loss."""
        size = (self.config.batch_size,)
        indices = torch.randint(self.pictures.num_training, size, generator=generator)
        soft = torch.rand(size, generator=generator) < self.config.reconstructed_share
        indices[soft] %= len(self.reconstructed)
        images = torch.stack(
            [
                to_tensor((self.reconstructed if seen_soft else self.pictures.pixels)[index])
                for index, seen_soft in zip(indices.tolist(), soft.tolist(), strict=True)
            ]
        )
        chosen = torch.rand(size, generator=generator) < 0.5
        images, truth = turn_over(images, self.truth[indices], chosen)
        device = self.estimator.device
        return truth_loss(self.estimator(spoil(images, generator).to(device)), truth.to(device))


@torch.no_grad()
def reconstruct(vae: Any, pixels: NDArray[np.uint8], *, batch_size: int = 32) -> NDArray[np.uint8]:
    """Pictures (B, H, W, 3) as the autoencoder gives them back."""
    given_back = []
    for start in range(0, len(pixels), batch_size):
        images = to_tensor(pixels[start : start + batch_size]).to(vae.device)
        given_back.append(to_pixels(vae.decode(vae.encode(images).latent_dist.mode()).sample))
    return np.concatenate(given_back)


def open_reconstructed(
    path: Path, vae: Any, pictures: Pictures, config: TruthConfig
) -> NDArray[np.uint8]:
    """The first training pictures through the autoencoder; made first if there is no such file."""
    count = min(config.num_reconstructed, pictures.num_training)

    def make(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.save(file, reconstruct(vae, pictures.pixels[:count]))

    make_once(path, make)
    pixels: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return pixels


def train_truth(
    config: TrainingConfig, vae: Any, pictures: Pictures, directory: Path
) -> TruthEstimator:
    """Train or continue to train the estimator."""
    estimator = build_estimator(config.truth, config.world.image_size)
    modules = nn.ModuleDict({"estimator": estimator}).to(config.device)
    trainer = Trainer(modules, config.truth, directory / "truth.safetensors", seed=config.seed)
    reconstructed = directory / "images_reconstructed.npy"
    loss = TruthLoss(
        estimator=estimator,
        pictures=pictures,
        reconstructed=open_reconstructed(reconstructed, vae, pictures, config.truth),
        truth=truth_of(pictures),
        config=config.truth,
    )
    averaged: Any = trainer.run(loss)["estimator"]
    trained: TruthEstimator = averaged
    shares = held_out_shares(trained, config.world.num_held_out, config.world.image_size)
    logger.info("right on held-out pictures: %s", shares)
    return trained


def export_truth(estimator: TruthEstimator, directory: Path) -> Path:
    """Write the folder `truth_estimator` of a family, weights as float16 safetensors."""
    path = directory / "truth_estimator"
    shipped: Any = copy.deepcopy(estimator)
    shipped.half().save_pretrained(path)
    return path


def held_out_shares(estimator: TruthEstimator, count: int, image_size: int) -> dict[str, float]:
    """The share of right answers on true pictures that no training has seen."""
    right: dict[str, list[bool]] = defaultdict(list)
    for index in range(count):
        scene = world.sample_scene(held_out_rng("estimator", index))
        (seen,) = estimator.look(world.draw(scene, image_size)[None])
        for name, answers in judge_picture(seen, scene).items():
            right[name] += answers
    return {name: round(float(np.mean(answers)), 4) for name, answers in right.items()}


def judge_picture(seen: Seen, scene: Scene) -> dict[str, list[bool]]:
    """Compare the estimate of a picture with its scene.

    Returns:
        For `place` and `time` one answer; for what a figure is, does and wears one for everybody
        who can be seen, wrong for who was not found; for `nobody_else` whether everybody who was
        found is there.
    """
    there = world.figures_of(scene)
    pairs = pair_up(seen, there)
    right = {
        "place": [seen.place == scene.place],
        "time": [seen.time_of_day == scene.time_of_day],
        "nobody_else": [len(pairs) == len(seen.figures)],
    }
    for name in FIGURE[2:]:
        found = [getattr(pairs.get(index), name, None) for index in range(len(there))]
        true = [getattr(one if name in WHO else one.outfit, name) for one in there]
        right[name] = [one == other for one, other in zip(found, true, strict=True)]
    return right


def pair_up(seen: Seen, there: Sequence[world.Sighting]) -> dict[int, SeenFigure]:
    """Match found figures with those that are there: nearest pairs first, none farther apart
    than `MAX_DISTANCE`."""
    distances = sorted(
        (float(np.hypot(found.x - one.x, found.y - one.y)), index, place)
        for place, found in enumerate(seen.figures)
        for index, one in enumerate(there)
    )
    pairs: dict[int, SeenFigure] = {}
    taken: set[int] = set()
    for distance, index, place in distances:
        if distance <= MAX_DISTANCE and index not in pairs and place not in taken:
            pairs[index] = seen.figures[place]
            taken.add(place)
    return pairs
