"""The arguments of the stages after prompts: plain values, importable without a model."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from storyreel.stages.output.manifests import Shard
from storyreel.stages.output.records import Keyframe, Panel, Shot, Story


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceImage:
    """A picture of a character, at the path to which the job copied it."""

    character: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyframesUnit:
    """The panels of one story, at least one, in order, and its characters' reference images.

    Attention couples the panels, so a story is rendered as a whole. `reference_images` are in the
    order of the characters.
    """

    story_id: str
    panels: tuple[Panel, ...]
    reference_images: tuple[ReferenceImage, ...]

    @classmethod
    def of(cls, story: Story, panels: Iterable[Panel]) -> Self:
        """The unit of a story whose pictures have been copied into the output."""
        images = tuple(
            ReferenceImage(character=character.name, path=character.reference_image)
            for character in story.characters
            if character.reference_image is not None
        )
        return cls(story_id=story.story_id, panels=tuple(panels), reference_images=images)


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionUnit:
    """A shot and the keyframes that it joins; `fps` is written into the clip."""

    shot: Shot
    first: Keyframe
    last: Keyframe
    fps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmUnit:
    """One story to make a film of; `fingerprint` is the job's and goes into the film's label."""

    story_id: str
    shard: Shard
    fingerprint: str
