"""Consistency and prompt following of keyframes: the paper's Table 1, its ablation, and the gate.

Every method renders the same held-out stories from the same noise; only the method differs.

The definitions were fixed before anything was measured, except those marked with *. The estimator
in `stages/scoring/measures/truth.py` judges the pictures; what it does not find counts as wrong.

- Clothes agree: of each pair of panels of a story and each of its characters, whether top, bottom
  and hat all have the same colour in both. By part: each of the three alone.
- Chance: the same share over pairs of panels of different stories of the same method.
- Right character: the characters of the prompt are in the picture, and no others; two cats pass for
  one. Right number *: as many figures as the prompt names. Both *: everybody is there once. Right
  action: all of them do what the prompt says. Right place and time: those of the prompt.
- Character similarity *: CLIP cosine of a square around the middle of the found figure's body, 0.35
  of the picture wide, with that of the same character in another panel; pairs of which one is not
  found are left out. All rows are cut alike, the true pictures too, although the world knows their
  outlines: a clean outline alone makes pictures alike.
- R@1: the picture is nearer to its own prompt than to every other one of its story (CLIP).
- Copies: share of pairs of panels of a story of which one repeats the other's picture.
- Gate *: share of pictures, of prompts that ask for the same character twice, in which exactly two
  figures of that character are found and wear the same three colours.
"""

import logging
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fidelity.rendering import Method, Pixels, StoryRenderer, panel_records
from benchmarks.fidelity.results import Result, Row, Setup, row_of
from storyreel.stages.keyframes.config import ConsistencyConfig, ImagePromptConfig
from storyreel.stages.models.config import PartConfig, resolve
from storyreel.stages.models.loading import load_part, load_pipeline
from storyreel.stages.models.unet_attention import BLOCKS
from storyreel.stages.scoring.config import ScoringConfig
from storyreel.stages.scoring.measures.characters import pair_similarities
from storyreel.stages.scoring.measures.encoder import ClipEncoder
from storyreel.stages.scoring.measures.truth import Seen, TruthEstimator
from storyreel.stages.scoring.panels import PanelScorer
from storyreel.stages.scoring.records import CLOTHES, SeenFigure
from storyreel.training import world
from storyreel.training.parts.truth import judge_picture, reconstruct
from storyreel.training.stories import (
    HeldOutStory,
    StoryPanel,
    held_out_rng,
    held_out_story,
    held_out_twins,
)

logger = logging.getLogger(__name__)

PLAIN = "plain"
PAPER = "consistent self-attention, the paper's settings"
WINDOW, STAR = "consistent self-attention, window", "consistent self-attention, star"
ADAPTER, BOTH = "image prompts", "image prompts and consistent self-attention"
TRUE = "true pictures of the world"
LOOKS = ("drawn", "decoded")
"""Pictures as the world draws them, and as the family's autoencoder gives them back."""
FIRST = 100
"""Index of the first measured story and twins; the configuration was tuned on lower ones."""
AROUND = 0.35
"""Side of the square around a figure, of the picture's: the body and the head without the place."""


def table1(setup: Setup) -> list[Method]:
    """The methods of the paper's Table 1; image prompts where the family has an adapter."""
    plain = {"coverage": "none"}
    methods = [
        _method(setup, PLAIN, plain),
        _method(setup, WINDOW, {"coverage": "window"}),
        _method(setup, PAPER, as_in_the_paper()),
        _method(setup, STAR, {"coverage": "star"}),
    ]
    prompt = ImagePromptConfig(path=setup.config.keyframes.model.path)
    if (Path(resolve(prompt.path)) / prompt.subfolder / prompt.weight_name).is_file():
        methods.append(_method(setup, ADAPTER, plain, prompt))
        methods.append(_method(setup, BOTH, {"coverage": "window"}, prompt))
    return methods


def as_in_the_paper() -> dict[str, Any]:
    """Settings of the paper, of which its window's size is not known."""
    return {
        "coverage": "window",
        "sampling_rate": 0.5,
        "sampling": "random",
        "layers": list(BLOCKS),
        "branches": "both",
        "subject": False,
        "start": 0.0,
        "end": 1.0,
    }


def ablation(setup: Setup) -> list[Method]:
    """Consistent self-attention by its sampling, its layers, its branches and its window, without
    subjects."""
    size = setup.config.keyframes.consistency.window_size
    base = {"coverage": "window", "subject": False}
    changes: dict[str, dict[str, Any]] = {
        "random, rate 0.3": {"sampling_rate": 0.3},
        "random, rate 0.5": {"sampling_rate": 0.5},
        "random, rate 0.7": {"sampling_rate": 0.7},
        "grid, rate 0.5": {"sampling_rate": 0.5, "sampling": "grid"},
        "decoder only": {"sampling_rate": 0.5, "layers": ["up_blocks"]},
        "all layers": {"sampling_rate": 0.5, "layers": list(BLOCKS)},
        "both branches": {"sampling_rate": 0.5, "branches": "both"},
        "all layers, both branches": {
            "sampling_rate": 0.5,
            "layers": list(BLOCKS),
            "branches": "both",
        },
        **{
            f"window of {width}": {"sampling_rate": 0.5, "window_size": width}
            for width in (2, 3, 5)
            if width < size
        },
    }
    methods = [_method(setup, name, {**base, **one}) for name, one in changes.items()]
    # What the configuration has anyway would be the same line twice.
    named = {method.row.folder: method for method in reversed(methods)}
    return [method for method in methods if named[method.row.folder] is method]


def _method(
    setup: Setup,
    name: str,
    change: dict[str, Any],
    image_prompt: ImagePromptConfig | None = None,
) -> Method:
    base = setup.config.keyframes
    consistency = ConsistencyConfig.model_validate({**base.consistency.model_dump(), **change})
    config = base.model_copy(update={"consistency": consistency, "image_prompt": image_prompt})
    return Method(row=row_of(setup, "stories", name, config), config=config)


def stories(setup: Setup, count: int | None = None) -> list[HeldOutStory]:
    """The measured stories, or the first `count` of them, each once per seed."""
    return [
        held_out_story(index, num_panels=setup.num_panels, seed=seed)
        for seed in range(setup.num_seeds)
        for index in range(FIRST, FIRST + (setup.num_stories if count is None else count))
    ]


def unit_of(story: HeldOutStory) -> str:
    """The name of a story's result, which includes its seed and length."""
    return f"{story.story_id}-{story.seed % 10**8:08d}"


class Judge:
    """Says of pictures what they show and how near they are to their texts."""

    def __init__(self, setup: Setup) -> None:
        """Load the estimator and CLIP."""
        scoring = ScoringConfig(model=setup.config.keyframes.model)
        self._estimator = load_estimator(setup)
        self._clip = ClipEncoder(scoring)
        self._score = PanelScorer(self._clip, scoring.copy_share)

    def __call__(self, story: HeldOutStory, pictures: Sequence[Pixels]) -> Result:
        """All that is measured of one story."""
        seen = self._estimator.look(pictures)
        scores = self._score(panel_records(story.story_id, story.panels), pictures)
        return {
            "story": story.story_id,
            "panels": [
                panel_result(one, panel) for one, panel in zip(seen, story.panels, strict=True)
            ],
            "retrieved": [score.retrieved for score in scores.panels],
            "text_similarity": [score.text_similarity for score in scores.panels],
            "character_similarity": [
                similarity
                for name in story.characters
                for similarity in self._similarities(name, seen, pictures)
            ],
            "copied": list(scores.copies.values()),
        }

    def _similarities(
        self, character: str, seen: Sequence[Seen], pictures: Sequence[Pixels]
    ) -> list[float]:
        cut = [
            around(picture, figure)
            for picture, one in zip(pictures, seen, strict=True)
            if (figure := one.figure(character)) is not None
        ]
        if len(cut) < 2:
            return []
        pairs = list(combinations(range(len(cut)), 2))
        return list(pair_similarities(self._clip.pictures(cut), pairs).values())


def around(picture: Pixels, figure: SeenFigure) -> Pixels:
    """The square of a picture (H, W, 3) around a figure, `AROUND` of the height wide, moved so far
    that all of it is in the picture."""
    height, width = picture.shape[:2]
    side = round(AROUND * height)
    top = min(max(round(figure.y * height - side / 2), 0), height - side)
    left = min(max(round(figure.x * width - side / 2), 0), width - side)
    return picture[top : top + side, left : left + side]


def load_estimator(setup: Setup) -> TruthEstimator:
    """The estimator that belongs to the family."""
    part = PartConfig(subfolder="truth_estimator")
    estimator: TruthEstimator = load_part(TruthEstimator, part, setup.config.keyframes.model)
    return estimator


def panel_result(seen: Seen, panel: StoryPanel) -> Result:
    """The correct parts of a picture and its characters' clothes (null: not found)."""
    asked = {figure.character: figure for figure in panel.scene.figures}
    found = {name: seen.figure(name) for name in asked}
    return {
        "character": {one.character for one in seen.figures} == set(asked),
        "action": all(
            one is not None and one.action == asked[name].action for name, one in found.items()
        ),
        "place": seen.place == panel.scene.place,
        "time": seen.time_of_day == panel.scene.time_of_day,
        "number": len(seen.figures) == len(asked),
        "clothes": {name: one and list(one.clothes) for name, one in found.items()},
    }


def agreement(first: Sequence[str] | None, second: Sequence[str] | None) -> list[bool]:
    """Of each of `CLOTHES` whether two figures wear the same colour; not found: they do not."""
    if first is None or second is None:
        return [False] * len(CLOTHES)
    return [one == other for one, other in zip(first, second, strict=True)]


def story_agreements(result: Result) -> list[list[bool]]:
    """`agreement` of each pair of panels and each character of a story's result."""
    clothes = [panel["clothes"] for panel in result["panels"]]
    return [
        agreement(first[name], second[name])
        for first, second in combinations(clothes, 2)
        for name in first
    ]


def twins_result(seen: Seen, panel: StoryPanel) -> Result:
    """How many figures of the character that the prompt asks for twice there are, and whether they
    agree; any other number than two does not."""
    name = panel.scene.figures[0].character
    found = [figure.clothes for figure in seen.figures if figure.character == name]
    first, second = found if len(found) == 2 else (None, None)
    return {"found": len(found), "agree": agreement(first, second)}


def measure_stories(setup: Setup, method: Method, count: int) -> None:
    """Render and judge those of the first `count` stories that are not there yet."""
    wanted = method.row.unmeasured({unit_of(story): story for story in stories(setup, count)})
    if not wanted:
        return
    judge, renderer = Judge(setup), StoryRenderer(method)
    for unit, story in wanted.items():
        method.row.keep(unit, judge(story, renderer(unit, story.panels)))
    logger.info("%s: %d stories", method.row.name, len(wanted))


def true_row(setup: Setup) -> Row:
    """The row of the world's own pictures of the stories."""
    return row_of(setup, "stories", TRUE, setup.config.keyframes.model)


def measure_true_stories(setup: Setup) -> None:
    """Judge the true pictures of the stories: the most that a method could reach."""
    row, size = true_row(setup), setup.config.keyframes.width
    wanted = row.unmeasured({unit_of(story): story for story in stories(setup)})
    if not wanted:
        return
    judge = Judge(setup)
    for unit, story in wanted.items():
        row.keep(unit, judge(story, [world.draw(panel.scene, size) for panel in story.panels]))


def twins(setup: Setup) -> range:
    """Indices of the held-out twins that are measured."""
    return range(FIRST, FIRST + setup.num_twins)


def gate(setup: Setup) -> Method:
    """The method of the gate: a picture alone, nothing beside it."""
    alone = _method(setup, PLAIN, {"coverage": "none"})
    return Method(row=row_of(setup, "gate", alone.row.name, alone.config), config=alone.config)


def measure_gate(setup: Setup) -> None:
    """Render and judge twins."""
    method = gate(setup)
    wanted = method.row.unmeasured({twin_unit(index): index for index in twins(setup)})
    if not wanted:
        return
    estimator, renderer = load_estimator(setup), StoryRenderer(method)
    for unit, index in wanted.items():
        panel = held_out_twins(index)
        (seen,) = estimator.look(renderer(unit, [panel]))
        method.row.keep(unit, twins_result(seen, panel))


def true_gate_row(setup: Setup) -> Row:
    """The row of the world's own pictures of the gate's prompts."""
    return row_of(setup, "gate", TRUE, setup.config.keyframes.model)


def measure_true_gate(setup: Setup) -> None:
    """Judge true twins: the most that the gate could reach with this estimator."""
    row, size = true_gate_row(setup), setup.config.keyframes.width
    wanted = row.unmeasured({twin_unit(index): index for index in twins(setup)})
    if not wanted:
        return
    estimator = load_estimator(setup)
    for unit, index in wanted.items():
        panel = held_out_twins(index)
        (seen,) = estimator.look([world.draw(panel.scene, size)])
        row.keep(unit, twins_result(seen, panel))


def estimator_row(setup: Setup) -> Row:
    """The row of the estimators' accuracy."""
    return row_of(setup, "estimator", "estimator", setup.config.keyframes.model)


def measure_estimator(setup: Setup) -> None:
    """Check the estimators on true pictures no training has seen, as drawn and as decoded."""
    row, size = estimator_row(setup), setup.config.keyframes.width
    wanted = row.unmeasured({true_unit(index): index for index in range(setup.num_true)})
    if not wanted:
        return
    estimator, vae = load_estimator(setup), load_pipeline(setup.config.keyframes.model).vae
    for unit, index in wanted.items():
        scene = world.sample_scene(held_out_rng("picture", index))
        drawn = world.draw(scene, size)[None]
        seen = estimator.look(np.concatenate([drawn, reconstruct(vae, drawn)]))
        looks = zip(LOOKS, seen, strict=True)
        row.keep(unit, {name: judge_picture(one, scene) for name, one in looks})


def true_unit(index: int) -> str:
    """The name of a true picture's result."""
    return f"picture-{index:04d}"


def twin_unit(index: int) -> str:
    """The name of a twin picture's result."""
    return f"twins-{index:03d}"
