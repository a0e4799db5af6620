"""Records of scores; a score that is not defined for a row is null, never NaN."""

from dataclasses import dataclass

from storyreel.stages.output.records import File, ShotKind, StoryId

CLOTHES = ("top", "bottom", "hat")
"""The parts of an outfit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenFigure:
    """A character that the estimator of the truth finds in a picture.

    Attributes:
        score: how sure the estimator is, in [0, 1].
        x, y: centre of the grid cell, in [0, 1] of the picture's width and height, y downwards.
        top, bottom, hat: colours of the clothes.
    """

    score: float
    x: float
    y: float
    character: str
    action: str
    top: str
    bottom: str
    hat: str

    @property
    def clothes(self) -> tuple[str, str, str]:
        """Colours of `CLOTHES`."""
        return self.top, self.bottom, self.hat


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelScore:
    """One keyframe against its prompt and against the other panels of its story.

    Attributes:
        text_similarity: CLIP cosine of the keyframe and its prompt, in [-1, 1].
        clip_score: CLIPScore, 2.5 x the cosine where it is positive, in [0, 2.5].
        retrieved: whether the keyframe is nearer to its own prompt than to every other one of the
            story (R@1); null where the story has one prompt only.
        character_similarity: mean CLIP cosine with the other panels of the same characters; null
            where there is none.
        copied_share: how much of the picture is found in a panel of another prompt, in [0, 1],
            the largest of them; null where there is none.
        copied: whether that makes it a copy.
        same_characters: share of the other panels of the same characters in which the estimator of
            the truth sees the same ones; null where there is none, or no estimator.
        same_clothes: share of them in which they also wear the same; who is not found counts as
            wrong.
        seen_place, seen_time, seen_figures: what the estimator sees, the surest figure first.
    """

    story_id: StoryId
    keyframe_index: int
    text_similarity: float
    clip_score: float
    retrieved: bool | None
    character_similarity: float | None
    copied_share: float | None
    copied: bool | None
    same_characters: float | None
    same_clothes: float | None
    seen_place: str | None
    seen_time: str | None
    seen_figures: tuple[SeenFigure, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShotScore:
    """One clip. Where a model rendered no frame (cut, hold, dissolve) only `static` is judged, and
    not that of a cut.

    Attributes:
        clipsim_first, clipsim_frames: mean CLIP cosine of the first frame with each other one, and
            of neighbouring frames, in [-1, 1].
        perceptual_first, perceptual_frames: the perceptual distances of the same pairs, in [0, 4].
        endpoint_closeness: how far, in grey levels, the model's own ends are from the keyframes
            that were put there.
        start_jump, end_jump: the step between a keyframe and the generated frame next to it, in
            median steps inside the clip.
        join_jump: the larger step on both sides of the keyframe that this clip shares with the
            next, in median steps inside both clips; null where no rendered clip follows.
        flicker: grey levels that come and go again within three frames.
        motion_magnitude: mean absolute difference of neighbouring generated frames, grey levels.
        displacement: how far the textured parts move from frame to frame, in picture widths.
        static: whether it stands still.
    """

    story_id: StoryId
    shot_index: int
    kind: ShotKind
    clipsim_first: float | None
    clipsim_frames: float | None
    perceptual_first: float | None
    perceptual_frames: float | None
    endpoint_closeness: float | None
    start_jump: float | None
    end_jump: float | None
    join_jump: float | None
    flicker: float | None
    motion_magnitude: float | None
    displacement: float | None
    static: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmScore:
    """One story: means over its panels and rendered clips, and what only a whole story shows.

    Attributes:
        character_similarity: mean CLIP cosine over the pairs of panels of the same characters.
        copy_rate: share of the pairs of panels with different prompts that are copies.
        same_characters, same_clothes: share of the pairs of panels of the same characters in which
            the estimator of the truth sees the same ones, and in the same clothes.
        static_rate: share of the clips, cuts left out, that stand still.
        worst_join: the largest `join_jump`.
    """

    story_id: StoryId
    num_panels: int
    num_clips: int
    text_similarity: float
    clip_score: float
    retrieval: float | None
    character_similarity: float | None
    copy_rate: float | None
    same_characters: float | None
    same_clothes: float | None
    clipsim_first: float | None
    clipsim_frames: float | None
    perceptual_first: float | None
    perceptual_frames: float | None
    endpoint_closeness: float | None
    endpoint_jump: float | None
    worst_join: float | None
    flicker: float | None
    motion_magnitude: float | None
    displacement: float | None
    static_rate: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobScore:
    """A mean over all rows of a table of scores, or a figure that only a whole job has.

    Attributes:
        of: "panels", "clips", "films", or "job".
        figure: a column of that table, or "frechet_distance" (of the keyframes to a reference).
        low, high: the 95 % interval; null where there is none.
        count: the rows, or the pictures.
        num_stories: the stories that they belong to.
    """

    of: str
    figure: str
    mean: float
    low: float | None
    high: float | None
    count: int
    num_stories: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoryScores:
    """The scores of one story.

    `features` is the file of the summed features of its keyframes (`FeatureStatistics.arrays`), for
    the Frechet distance.
    """

    story_id: str
    panels: tuple[PanelScore, ...]
    clips: tuple[ShotScore, ...]
    film: FilmScore
    features: File


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceScores:
    """The file of the summed features of a folder of pictures (`FeatureStatistics.arrays`)."""

    features: File
