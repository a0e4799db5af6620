"""One clip after the other, and the joins between them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from storyreel.stages.output.records import Clip, ShotKind
from storyreel.stages.scoring.measures.encoder import ClipEncoder
from storyreel.stages.scoring.measures.motion import (
    displacement,
    endpoint_jumps,
    flicker,
    is_static,
    join_jump_of_steps,
    motion_magnitude,
    steps,
)
from storyreel.stages.scoring.measures.tiles import Pixels
from storyreel.stages.scoring.measures.video import frame_similarity
from storyreel.stages.scoring.records import ShotScore


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredClip:
    """A clip's score, still without its join to the next, and its `steps`."""

    score: ShotScore
    steps: tuple[float, ...]


class ClipScorer:
    """Scores clips."""

    def __init__(self, encoder: ClipEncoder, static_level: float) -> None:
        self._encoder = encoder
        self._static_level = static_level

    def __call__(self, clip: Clip, frames: Sequence[Pixels]) -> ScoredClip:
        """Score the frames (F, H, W, 3) of `clip`, both keyframes included."""
        rendered = clip.kind is ShotKind.MOTION
        score = self._rendered(clip, frames) if rendered else self._joined(clip, frames)
        return ScoredClip(score=score, steps=tuple(steps(frames)))

    def _rendered(self, clip: Clip, frames: Sequence[Pixels]) -> ShotScore:
        generated = frames[1:-1]
        similarity = frame_similarity(self._encoder.features(frames))
        start, end = endpoint_jumps(frames)
        return ShotScore(
            story_id=clip.story_id,
            shot_index=clip.shot_index,
            kind=clip.kind,
            clipsim_first=similarity.clipsim_first,
            clipsim_frames=similarity.clipsim_frames,
            perceptual_first=similarity.perceptual_first,
            perceptual_frames=similarity.perceptual_frames,
            endpoint_closeness=clip.endpoint_closeness,
            start_jump=start,
            end_jump=end,
            join_jump=None,
            flicker=flicker(frames),
            motion_magnitude=motion_magnitude(generated),
            displacement=displacement(generated),
            static=is_static(frames, self._static_level),
        )

    def _joined(self, clip: Clip, frames: Sequence[Pixels]) -> ShotScore:
        is_cut = clip.kind is ShotKind.CUT
        return ShotScore(
            story_id=clip.story_id,
            shot_index=clip.shot_index,
            kind=clip.kind,
            clipsim_first=None,
            clipsim_frames=None,
            perceptual_first=None,
            perceptual_frames=None,
            endpoint_closeness=None,
            start_jump=None,
            end_jump=None,
            join_jump=None,
            flicker=None,
            motion_magnitude=None,
            displacement=None,
            static=None if is_cut else is_static(frames, self._static_level),
        )


def with_joins(clips: Sequence[ScoredClip]) -> tuple[ShotScore, ...]:
    """The scores of a story's clips, in order, each with its join to the next."""
    joins = [_join(before, after) for before, after in pairwise(clips)]
    jumps = [*joins, None][: len(clips)]
    return tuple(
        replace(clip.score, join_jump=jump) for clip, jump in zip(clips, jumps, strict=True)
    )


def _join(before: ScoredClip, after: ScoredClip) -> float | None:
    kinds = {before.score.kind, after.score.kind}
    return join_jump_of_steps(before.steps, after.steps) if kinds == {ShotKind.MOTION} else None
