"""Renders the keyframes of held-out stories by a method."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.fidelity.results import Row
from storyreel.stages.keyframes.config import KeyframesConfig
from storyreel.stages.keyframes.stage import KeyframesStage, KeyframesUnit
from storyreel.stages.output.records import Character, Panel
from storyreel.training import world
from storyreel.training.stories import StoryPanel

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One line of a table."""

    row: Row
    config: KeyframesConfig


class StoryRenderer:
    """Renders stories by one method and keeps the pictures beside the results."""

    def __init__(self, method: Method) -> None:
        """Load the stage."""
        self._folder = method.row.folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self._stage = KeyframesStage(output_url=str(self._folder), config=method.config)

    def __call__(self, unit: str, panels: Sequence[StoryPanel]) -> list[Pixels]:
        """The pictures of the panels, rendered together."""
        keyframes = self._stage(
            KeyframesUnit(
                story_id=unit,
                panels=panel_records(unit, panels),
                reference_images=(),
                characters=character_records(panels),
            )
        )
        return [read_png(self._folder / keyframe.path) for keyframe in keyframes]


def panel_records(story_id: str, panels: Sequence[StoryPanel]) -> tuple[Panel, ...]:
    """The panels as the stages know them."""
    common: dict[str, Any] = {"beat": 0, "negative_prompt": "", "caption": "", "splitter": "none"}
    return tuple(
        Panel(
            story_id=story_id,
            keyframe_index=index,
            panel_index=index,
            prompt=panel.prompt,
            characters=names_of(panel),
            seed=panel.seed,
            warnings=(),
            **common,
        )
        for index, panel in enumerate(panels)
    )


def names_of(panel: StoryPanel) -> tuple[str, ...]:
    """The characters of a panel; twins are one."""
    return tuple(dict.fromkeys(figure.character for figure in panel.scene.figures))


def character_records(panels: Sequence[StoryPanel]) -> tuple[Character, ...]:
    """The characters of the panels, described by all words that their prompts may have for them."""
    return tuple(
        Character(name=name, description=" ".join(world.nouns(name)), reference_image=None)
        for name in dict.fromkeys(name for panel in panels for name in names_of(panel))
    )


def read_png(path: Path) -> Pixels:
    """Pixels (H, W, 3)."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def pictures_of(row: Row, unit: str, count: int) -> list[Pixels]:
    """The pictures that a method rendered of a story."""
    return [read_png(row.folder / f"keyframes/{unit}/{index:04d}.png") for index in range(count)]
