"""The arguments of the stages after prompts: plain values, importable without a model."""

from dataclasses import dataclass

from storyreel.stages.output.manifests import Shard
from storyreel.stages.output.records import Keyframe, Panel, Shot


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
