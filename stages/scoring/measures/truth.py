"""Contents of a picture of the pocket world: characters, actions, clothes, place, time of day.

A small convolutional network, trained on pictures whose truth is known (`training/truth.py`). It
finds figures as CenterNet does (arXiv 1904.07850): every cell of a coarse grid tells how surely the
middle of a figure lies in it, and whose.

Axes: B pictures, Y and X cells of the grid, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from storyreel.stages.scoring.records import CLOTHES, SeenFigure

STRIDE = 16
"""Pixels of the network's input per cell of the grid."""
MIN_SCORE = 0.5
"""A cell that is less sure holds no figure."""
MAX_FIGURES = 4
"""Of one picture."""
BATCH_SIZE = 32
"""Pictures that are looked at together."""

Pictures = NDArray[np.uint8] | Sequence[NDArray[np.uint8]]
"""RGB pixels (height, width, 3) of each picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A picture as the estimator sees it; the surest figure comes first."""

    place: str
    time_of_day: str
    figures: tuple[SeenFigure, ...]

    def figure(self, character: str) -> SeenFigure | None:
        """The surest figure of that character, if there is one."""
        return next((one for one in self.figures if one.character == character), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Logits of a batch."""

    objectness: Tensor
    """(B, Y, X)."""
    figures: dict[str, Tensor]
    """Of `character`, `action` and each of `CLOTHES`: (B, K, Y, X)."""
    scene: dict[str, Tensor]
    """Of `place` and `time`: (B, K)."""


def same_characters(first: Seen, second: Seen) -> bool:
    """True if both pictures show somebody, and both the same characters."""
    names = {figure.character for figure in first.figures}
    return bool(names) and names == {figure.character for figure in second.figures}


def same_clothes(first: Seen, second: Seen) -> bool:
    """True if `same_characters`, and each of them (the surest figure) wears the same in both."""
    return same_characters(first, second) and all(
        _clothes(first, figure.character) == _clothes(second, figure.character)
        for figure in first.figures
    )


def _clothes(seen: Seen, character: str) -> tuple[str, str, str] | None:
    figure = seen.figure(character)
    return None if figure is None else figure.clothes


class _Block(nn.Module):
    """Two convolutions around which the input is added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(8, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(8, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, hidden_states: Tensor) -> Tensor:
        change: Tensor = self.layers(hidden_states)
        return hidden_states + change


class TruthEstimator(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Estimates figures, place and time of day of pictures of the pocket world.

    Args:
        characters, actions, places, times, colours: the world's tables, in the order of the logits.
        image_size: side of the network's input in pixels, a multiple of `STRIDE`.
        channels: of the feature maps at 1/4, 1/8 and 1/16 of the input's side; multiples of 8.
        blocks: residual blocks at each of them.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(  # noqa: PLR0913, PLR0917 - diffusers configs are flat
        self,
        characters: Sequence[str],
        actions: Sequence[str],
        places: Sequence[str],
        times: Sequence[str],
        colours: Sequence[str],
        image_size: int = 128,  # noqa: ARG002 - read from the config
        channels: Sequence[int] = (48, 80, 128),
        blocks: Sequence[int] = (1, 2, 1),
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.figure_tables: dict[str, Sequence[str]] = {
            "character": characters,
            "action": actions,
            **dict.fromkeys(CLOTHES, colours),
        }
        self.scene_tables: dict[str, Sequence[str]] = {"place": places, "time": times}
        layers: list[nn.Module] = [nn.Conv2d(3, channels[0], 8, stride=4, padding=2)]
        for level, (width, count) in enumerate(zip(channels, blocks, strict=True)):
            if level > 0:
                layers.append(nn.Conv2d(channels[level - 1], width, 3, stride=2, padding=1))
            layers += [_Block(width) for _ in range(count)]
        self.features = nn.Sequential(*layers, nn.GroupNorm(8, channels[-1]), nn.SiLU())
        self.figure_head = nn.Conv2d(channels[-1], 1 + _total(self.figure_tables), 1)
        self.scene_head = nn.Linear(channels[-1], _total(self.scene_tables))
        # Nearly all cells are empty; the loss would otherwise begin with learning just that.
        with torch.no_grad():
            self.figure_head.get_parameter("bias")[0] = -3.0

    def forward(self, images: Tensor) -> Evidence:
        """Look at pictures (B, 3, image_size, image_size) in [-1, 1]."""
        features = self.features(images)
        objectness, *figures = self.figure_head(features).split(
            [1, *_sizes(self.figure_tables)], dim=1
        )
        scene = self.scene_head(features.mean(dim=(2, 3))).split(_sizes(self.scene_tables), dim=1)
        return Evidence(
            objectness=objectness[:, 0],
            figures=dict(zip(self.figure_tables, figures, strict=True)),
            scene=dict(zip(self.scene_tables, scene, strict=True)),
        )

    @torch.inference_mode()
    def look(self, pictures: Pictures) -> list[Seen]:
        """MeanEstimate the contents of pictures; those of another size are resized."""
        seen: list[Seen] = []
        for start in range(0, len(pictures), BATCH_SIZE):
            images = self._prepared(pictures[start : start + BATCH_SIZE])
            evidence = self(images)
            seen += [self._read(evidence, index) for index in range(len(images))]
        return seen

    def _prepared(self, pictures: Pictures) -> Tensor:
        """(B, 3, image_size, image_size) in [-1, 1]."""
        side: int = self.config["image_size"]
        fitted = np.stack([_resized(picture, side) for picture in pictures])
        images = torch.from_numpy(fitted).permute(0, 3, 1, 2).to(self.device, self.dtype)
        return images / 127.5 - 1

    def _read(self, evidence: Evidence, index: int) -> Seen:
        scores = evidence.objectness[index].float().sigmoid()
        place, time_of_day = (
            table[int(evidence.scene[name][index].argmax())]
            for name, table in self.scene_tables.items()
        )
        return Seen(
            place=place,
            time_of_day=time_of_day,
            figures=tuple(self._figure(evidence, index, cell) for cell in peaks(scores)),
        )

    def _figure(self, evidence: Evidence, index: int, cell: tuple[int, int]) -> SeenFigure:
        row, column = cell
        height, width = evidence.objectness.shape[1:]
        named = {
            name: table[int(evidence.figures[name][index, :, row, column].argmax())]
            for name, table in self.figure_tables.items()
        }
        return SeenFigure(
            score=float(evidence.objectness[index, row, column].float().sigmoid()),
            x=(column + 0.5) / width,
            y=(row + 0.5) / height,
            **named,
        )


def _sizes(tables: dict[str, Sequence[str]]) -> list[int]:
    return [len(table) for table in tables.values()]


def _total(tables: dict[str, Sequence[str]]) -> int:
    return sum(_sizes(tables))


def _resized(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    if picture.shape[:2] == (side, side):
        return picture
    image: Any = Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.uint8)


def peaks(scores: Tensor) -> list[tuple[int, int]]:
    """The cells (row, column) of (Y, X) scores that are sure and surer than all around them, the
    surest first."""
    highest = F.max_pool2d(scores[None, None], 3, stride=1, padding=1)[0, 0]
    cells = ((scores == highest) & (scores >= MIN_SCORE)).nonzero().tolist()
    ranked = sorted(cells, key=lambda cell: -float(scores[cell[0], cell[1]]))
    return [(row, column) for row, column in ranked[:MAX_FIGURES]]
