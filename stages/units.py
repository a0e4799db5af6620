"""The arguments that stages are called with: plain values, importable without torch."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

from storyreel.stages.output.manifests import Shard
from storyreel.stages.output.records import Character, Keyframe, Panel, Shot, Story

Stage: TypeAlias = Callable[[Any], tuple[Any, ...]]
"""Does the work of one unit: publishes its files and returns their records."""

StageFactory: TypeAlias = Callable[[], Stage]
"""Constructs a stage on a worker, models loaded; sent there by pickle (a class, a partial)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceImage:
    """A picture of a character; `path` is relative to the output, into which the job copied it."""

    character: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyframesUnit:
    """The panels of one story, at least one, in reading order.

    Attention couples the panels, so a story is rendered as a whole. `reference_images` are in the
    order of the story's characters; characters without an image are left out. The names and
    descriptions in `characters` tell apart who is where in a panel.
    """

    story_id: str
    panels: tuple[Panel, ...]
    reference_images: tuple[ReferenceImage, ...]
    characters: tuple[Character, ...] = ()

    @classmethod
    def of(cls, story: Story, panels: Iterable[Panel]) -> Self:
        """The unit of a story whose pictures have been copied into the output."""
        images = tuple(
            ReferenceImage(character=character.name, path=character.reference_image)
            for character in story.characters
            if character.reference_image is not None
        )
        return cls(
            story_id=story.story_id,
            panels=tuple(panels),
            reference_images=images,
            characters=story.characters,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionUnit:
    """A shot and the two keyframes between which it leads; `fps` is stored in the clip."""

    shot: Shot
    first: Keyframe
    last: Keyframe
    fps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmUnit:
    """A story to make a film of, from the manifests of `shard`.

    `fingerprint` is that of the job; it is stored in the film's metadata.
    """

    story_id: str
    shard: Shard
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringUnit:
    """A story with a film, to score from the manifests of `shard`."""

    story_id: str
    shard: Shard


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceUnit:
    """A folder or URL of pictures to compare keyframes with; workers must be able to read it."""

    url: str
