"""Stories, twins and clips of the world that no training has seen, and what is true of them.

A story shows the same characters in the same clothes in every panel, each panel at another action
and place; its prompts never name the clothes, so that only consistency can carry them along.
Training draws picture i from the seed (seed, i); what is here comes from hashed seeds far outside.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np

from storyreel.stages.seeds import derive_seed
from storyreel.training import world
from storyreel.training.world import ACTIONS, PLACES, Clip, Scene

T = TypeVar("T")

CLOTHING = re.compile(r"\b(coat|jacket|shirt|skirt|trousers|hat|scarf)s?\b")
"""A caption with one of these words says something of the clothes."""
TWINS = re.compile(r"\b(twins?|two|double)\b")
"""A caption with one of these words asks for the same character twice."""
PAIR_SHARE = 0.25
"""Share of the stories that two characters share."""
SAME_PHASE = 0.1
SAME_X = 0.05
"""A motion ends where it began if phase (of its cycle) and place (in widths of the picture) of
each figure differ by less at the two ends."""
MAX_DRAWS = 2000
"""What was not drawn in so many attempts does not exist in the world."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoryPanel:
    """A prompt, and a scene that it describes; `scene.figures` are the story's characters."""

    prompt: str
    seed: int
    scene: Scene


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutStory:
    """The panels of a story; `seed` is of whatever its panels share."""

    story_id: str
    seed: int
    panels: tuple[StoryPanel, ...]

    @property
    def characters(self) -> tuple[str, ...]:
        """The characters of the story."""
        return tuple(figure.character for figure in self.panels[0].scene.figures)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutClip:
    """A clip with its caption; `kind` says whether it stays inside one place."""

    clip_id: str
    kind: Literal["inside", "between"]
    text: str
    seed: int
    clip: Clip


def held_out_rng(*parts: str | int) -> np.random.Generator:
    """A generator of what no training has seen, seeded by what it is for."""
    return np.random.default_rng(derive_seed("held out", *parts))


def held_out_story(index: int, *, num_panels: int, seed: int = 0) -> HeldOutStory:
    """Story `index` of the held-out ones; `seed` changes the noise of its panels, not the story.

    Raises:
        ValueError: the world has fewer actions or places than the story has panels.
    """
    most = min(len(ACTIONS), len(PLACES))
    if not 1 <= num_panels <= most:
        raise ValueError(f"num_panels: {num_panels}, allowed are 1 to {most}")
    rng = held_out_rng("story", index, num_panels)
    first = _company(rng, 2 if rng.random() < PAIR_SHARE else 1)
    actions = rng.permutation(ACTIONS)[:num_panels].tolist()
    places = rng.permutation(PLACES)[:num_panels].tolist()
    scenes = [
        _acting(_company(rng, len(first.figures)), first, action=action, place=place)
        for action, place in zip(actions, places, strict=True)
    ]
    story_id = f"held-out-{index:03d}"
    return HeldOutStory(
        story_id=story_id,
        seed=derive_seed(story_id, seed),
        panels=tuple(
            StoryPanel(
                prompt=open_caption(scene, rng),
                seed=derive_seed(story_id, seed, place),
                scene=scene,
            )
            for place, scene in enumerate(scenes)
        ),
    )


def _company(rng: np.random.Generator, count: int) -> Scene:
    """A scene of `count` different characters, without mirror or portrait."""

    def fits(scene: Scene) -> bool:
        names = {figure.character for figure in scene.figures}
        alone = not scene.mirror and scene.portrait is None
        return alone and len(scene.figures) == count == len(names)

    return _drawn(lambda: world.sample_scene(rng), fits)


def _acting(scene: Scene, first: Scene, *, action: str, place: str) -> Scene:
    """`scene` elsewhere, with the characters and clothes of `first` at `action`."""
    figures = tuple(
        replace(now, character=cast.character, outfit=cast.outfit, action=action)
        for now, cast in zip(scene.figures, first.figures, strict=True)
    )
    return replace(scene, place=place, figures=world.fitted(figures))


def open_caption(scene: Scene, rng: np.random.Generator) -> str:
    """A caption that calls every character by its plain name and leaves the clothes open."""
    names = [figure.character for figure in scene.figures]

    def fits(caption: str) -> bool:
        return CLOTHING.search(caption) is None and all(name in caption for name in names)

    return _drawn(lambda: world.caption(scene, rng), fits)


def held_out_twins(index: int) -> StoryPanel:
    """One picture that shows a character twice, with a prompt that asks for that and leaves the
    clothes open."""
    rng = held_out_rng("twins", index)

    def fits(scene: Scene) -> bool:
        return len(scene.figures) == 2 and _same_twice(scene)

    scene = _drawn(lambda: world.sample_scene(rng), fits)
    asking = _drawn(
        lambda: world.caption(scene, rng),
        lambda text: CLOTHING.search(text) is None and TWINS.search(text) is not None,
    )
    return StoryPanel(prompt=asking, seed=derive_seed("twins", index), scene=scene)


def _same_twice(scene: Scene) -> bool:
    first, second = scene.figures
    return first.character == second.character and first.outfit == second.outfit


def held_out_clip(
    index: int, kind: Literal["inside", "between"], *, num_frames: int = 16
) -> HeldOutClip:
    """Clip `index` of its kind; motions that end where they began are left out."""
    rng = held_out_rng("clip", kind, index)

    def fits(clip: Clip) -> bool:
        inside = clip.mixes[-1] == 0.0
        return inside == (kind == "inside") and not ends_where_it_began(clip)

    clip = _drawn(lambda: world.sample_clip(rng, num_frames), fits)
    clip_id = f"{kind}-{index:03d}"
    text = world.clip_caption(clip, rng)
    return HeldOutClip(clip_id=clip_id, kind=kind, text=text, seed=derive_seed(clip_id), clip=clip)


def ends_where_it_began(clip: Clip) -> bool:
    """True if every figure of a clip inside one place ends in the pose and place it began in, so
    that its two ends say nothing of the motion between them."""
    if clip.mixes[-1] > 0:
        return False
    ends = zip(clip.scenes[0].figures, clip.scenes[-1].figures, strict=True)
    return all(
        abs((last.phase - first.phase + 0.5) % 1 - 0.5) < SAME_PHASE
        and abs(last.x - first.x) < SAME_X
        for first, last in ends
    )


def _drawn(draw: Callable[[], T], fits: Callable[[T], bool]) -> T:
    for _ in range(MAX_DRAWS):
        drawn = draw()
        if fits(drawn):
            return drawn
    raise RuntimeError(f"nothing that fits in {MAX_DRAWS} draws")
