"""Grids of pictures beside the page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.fidelity import clips, keyframes
from benchmarks.fidelity.grids import Line, save_grid
from benchmarks.fidelity.keyframes import gate, table1, unit_of
from benchmarks.fidelity.rendering import pictures_of
from benchmarks.fidelity.results import Setup
from benchmarks.fidelity.summaries import STORY_MEASURES
from benchmarks.fidelity.tables import (
    alternatives,
    clip_results,
    gate_passed,
    gate_results,
    story_results,
)
from storyreel.training import world
from storyreel.training.stories import HeldOutStory, held_out_twins

GRID_SIDE, CLIP_SIDE = 104, 84
"""Pixels of a picture of a grid: keyframes, frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoryGrid:
    """A saved grid of stories."""

    title: str
    path: str
    stories: Sequence[HeldOutStory]


def save_twins(setup: Setup, directory: Path) -> list[str]:
    """Save twins that agree and twins that do not; the prompts of the latter."""
    row = gate(setup).row
    passed = [gate_passed(one) for one in gate_results(setup, row)]
    judged = list(zip(keyframes.twins(setup), passed, strict=True))
    agreeing, others = ([i for i, good in judged if good is wanted] for wanted in (True, False))
    lines = [
        Line(
            label=label,
            pictures=[pictures_of(row, keyframes.twin_unit(i), 1)[0] for i in chosen[:8]],
        )
        for label, chosen in (("agree", agreeing), ("do not agree", others))
        if chosen
    ]
    save_grid(directory / "fidelity/twins.png", lines, side=GRID_SIDE)
    return [held_out_twins(i).prompt for i in others[:8]]


def save_stories(setup: Setup, directory: Path) -> Iterator[StoryGrid]:
    """Save the stories in which most and fewest clothes agree."""
    measured = story_results(setup, table1(setup)[1], setup.num_stories)
    if not measured:
        return
    stories = keyframes.stories(setup)
    agreement = [np.mean(STORY_MEASURES["clothes"](result)) for result in measured]
    order = sorted(range(len(stories)), key=lambda i: (-agreement[i], i))
    for name, title, chosen in (
        ("best", "Where most clothes agree", order[:3]),
        ("worst", "Where fewest clothes agree", order[::-1][:3]),
    ):
        grid = [line for i in chosen for line in _story_lines(setup, stories[i])]
        path = f"fidelity/stories-{name}.png"
        save_grid(directory / path, grid, side=GRID_SIDE)
        yield StoryGrid(title=title, path=path, stories=[stories[i] for i in chosen])


def _story_lines(setup: Setup, story: HeldOutStory) -> Iterator[Line]:
    """The story as the world draws it and as the methods render it, but for both together."""
    size, unit = setup.config.keyframes.width, unit_of(story)
    yield Line(label=keyframes.TRUE, pictures=[world.draw(p.scene, size) for p in story.panels])
    for method in table1(setup):
        if method.row.name != keyframes.BOTH and method.row.has(unit):
            pictures = pictures_of(method.row, unit, len(story.panels))
            yield Line(label=method.row.name, pictures=pictures)


def save_clips(setup: Setup, directory: Path, kind: str) -> str | None:
    """Save the clips in which the predictor gains most and least over the best alternative."""
    method, others = alternatives(setup, reading=True)
    ours = clip_results(setup, method, kind)
    theirs = [clip_results(setup, other, kind) for other in others]
    if not ours or not all(theirs):
        return None
    gains = [
        min(other[i]["pixels"] for other in theirs) - one["pixels"] for i, one in enumerate(ours)
    ]
    shown = [clip for clip in clips.clips(setup) if clip.kind == kind]
    order = sorted(range(len(shown)), key=lambda i: (-gains[i], i))
    chosen = list(dict.fromkeys([order[0], order[-1]]))
    size = setup.config.keyframes.width
    lines = []
    for place, i in enumerate(chosen):
        title = "most gained by the predictor" if place == 0 else "least gained"
        lines.append(Line(label=f"{title}: {shown[i].text}", pictures=()))
        lines.append(Line(label="true", pictures=_some(list(clips.true_frames(setup, shown[i])))))
        for one in (method, *others):
            (frames,) = clips.read_strip(one.row, shown[i].clip_id, size)
            lines.append(Line(label=one.row.name, pictures=_some(frames)))
    path = f"fidelity/clips-{kind}.png"
    save_grid(directory / path, lines, side=CLIP_SIDE)
    return path


def save_film(setup: Setup, directory: Path) -> None:
    """Save the shots of the first film."""
    row, story = clips.films_row(setup, table1(setup)[1]), clips.film_stories(setup)[0]
    shots = clips.read_strip(row, unit_of(story), setup.config.keyframes.width)
    grid = [Line(label=f"shot {i + 1}", pictures=_some(shot)) for i, shot in enumerate(shots)]
    save_grid(directory / "fidelity/film.png", grid, side=CLIP_SIDE)


def _some(frames: Sequence[clips.Pixels]) -> list[clips.Pixels]:
    """Every other frame and the last."""
    return [*frames[:-1:2], frames[-1]]
