"""The scores of a film, from those of its panels and clips."""

from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np

from storyreel.stages.scoring.panels import PanelScores
from storyreel.stages.scoring.records import FilmScore, ShotScore


def score_film(story_id: str, panels: PanelScores, clips: Sequence[ShotScore]) -> FilmScore:
    """The score of a story from those of its panels, at least one, and of its clips."""
    jumps = chain.from_iterable((clip.start_jump, clip.end_jump) for clip in clips)
    joins = [clip.join_jump for clip in clips if clip.join_jump is not None]
    text_similarity, clip_score = np.mean(
        [(panel.text_similarity, panel.clip_score) for panel in panels.panels], axis=0
    ).tolist()
    return FilmScore(
        story_id=story_id,
        num_panels=len(panels.panels),
        num_clips=len(clips),
        text_similarity=text_similarity,
        clip_score=clip_score,
        retrieval=_mean(panel.retrieved for panel in panels.panels),
        character_similarity=_mean(panels.characters.values()),
        copy_rate=_mean(panels.copies.values()),
        same_characters=_mean(panels.same_characters.values()),
        same_clothes=_mean(panels.same_clothes.values()),
        clipsim_first=_mean(clip.clipsim_first for clip in clips),
        clipsim_frames=_mean(clip.clipsim_frames for clip in clips),
        perceptual_first=_mean(clip.perceptual_first for clip in clips),
        perceptual_frames=_mean(clip.perceptual_frames for clip in clips),
        endpoint_closeness=_mean(clip.endpoint_closeness for clip in clips),
        endpoint_jump=_mean(jumps),
        worst_join=max(joins, default=None),
        flicker=_mean(clip.flicker for clip in clips),
        motion_magnitude=_mean(clip.motion_magnitude for clip in clips),
        displacement=_mean(clip.displacement for clip in clips),
        static_rate=_mean(clip.static for clip in clips),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    """The mean of the values that have a meaning; none where none has."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
