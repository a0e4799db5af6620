"""The scoring stage: one rendered story in, the scores of its panels, clips and film out."""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from storyreel.stages.films.frames import clip_frames
from storyreel.stages.films.rendered_stories import RenderedShard, RenderedStory, naming
from storyreel.stages.models.loading import load_part
from storyreel.stages.output.manifests import Shard
from storyreel.stages.output.storage import Output
from storyreel.stages.pictures import read_picture
from storyreel.stages.scoring.clips import ClipScorer, ScoredClip, with_joins
from storyreel.stages.scoring.config import ScoringConfig
from storyreel.stages.scoring.films import score_film
from storyreel.stages.scoring.masks import CharacterMasks
from storyreel.stages.scoring.measures.encoder import ClipEncoder
from storyreel.stages.scoring.measures.frechet import FeatureStatistics
from storyreel.stages.scoring.measures.tiles import Pixels
from storyreel.stages.scoring.measures.truth import TruthEstimator
from storyreel.stages.scoring.panels import PanelScorer
from storyreel.stages.scoring.records import ClipScore, FilmScore, PanelScore

__all__ = ["ScoringConfig", "ScoringStage", "ScoringUnit", "StoryScores"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringUnit:
    """One story with a film; `shard` is where its manifests are."""

    story_id: str
    shard: Shard


@dataclass(frozen=True, slots=True, kw_only=True)
class StoryScores:
    """The scores of one story, and its keyframes' features for the Frechet distance."""

    panels: tuple[PanelScore, ...]
    clips: tuple[ClipScore, ...]
    film: FilmScore
    features: FeatureStatistics


class ScoringStage:
    """Scores stories; a stage that exists has its encoder loaded."""

    def __init__(self, *, output_url: str, config: ScoringConfig) -> None:
        """Load the encoder, and the estimator where there is one.

        Args:
            output_url: where the rendered stories are.
            config: the encoder, the masks and the limits.

        Raises:
            OSError: a part of the encoder, or the estimator, is not there.
            ValueError: the output cannot be one, or the parts are not those of one CLIP.
        """
        self._output = Output(output_url)
        self._encoder = ClipEncoder(config)
        masks = None if config.masks is None else CharacterMasks(config.masks)
        estimator = _load_estimator(config)
        self._score_panels = PanelScorer(self._encoder, config.copy_share, masks, estimator)
        self._score_clip = ClipScorer(self._encoder, config.static_level)
        self._shard = lru_cache(maxsize=1)(partial(RenderedShard, self._output))

    def __call__(self, unit: ScoringUnit) -> StoryScores:
        """Score a story from its files, whose checksums are compared on the way.

        Raises:
            FileNotFoundError: a manifest of the shard is missing.
            ValueError: a panel, keyframe or clip of the story is missing, damaged or not what its
                record says; names the story, the shot and the file.
        """
        story = self._shard(unit.shard).story(unit.story_id)
        with naming(f"story {story.story_id}"):
            pictures = [read_picture(self._output, k, k.width, k.height) for k in story.keyframes]
            panels = self._score_panels(story.panels, pictures)
            clips = with_joins(list(self._clips(story)))
        return StoryScores(
            panels=panels.panels,
            clips=clips,
            film=score_film(story.story_id, panels, clips),
            features=panels.features,
        )

    def features(self, pictures: Iterable[Pixels]) -> Iterator[FeatureStatistics]:
        """The features of other pictures, uint8 (H, W, 3) each, summed up a batch at a time."""
        for batch in self._encoder.features(pictures):
            yield FeatureStatistics.of(batch.embeds.float().cpu().numpy())

    def _clips(self, story: RenderedStory) -> Iterator[ScoredClip]:
        with tempfile.TemporaryDirectory(prefix="scoring-") as name:
            for clip in story.clips:
                frames: list[Pixels] = list(clip_frames(self._output, clip, Path(name)))
                yield self._score_clip(clip, frames)


def _load_estimator(config: ScoringConfig) -> TruthEstimator | None:
    if config.truth_estimator is None:
        return None
    loaded: TruthEstimator = load_part(TruthEstimator, config.truth_estimator, config.model)
    return loaded
