"""The scoring stage: takes a rendered story, returns the scores of its panels, clips and film."""

import tempfile
from collections.abc import Iterator
from functools import lru_cache, partial, reduce
from operator import add
from pathlib import Path

from safetensors.numpy import save

from storyreel.stages.films.frames import clip_frames
from storyreel.stages.films.rendered_stories import RenderedShard, RenderedStory, naming
from storyreel.stages.heartbeat import beat
from storyreel.stages.models.loading import load_part
from storyreel.stages.output.records import File
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
from storyreel.stages.scoring.records import ReferenceScores, StoryScores
from storyreel.stages.scoring.reference_pictures import reference_pictures
from storyreel.stages.units import ReferenceUnit, ScoringUnit

FEATURES = "scoring/features"
"""Folder of the files of summed features; they are removed once they are added up by shard."""


class ScoringStage:
    """Scores stories, and sums the features of reference pictures up."""

    def __init__(self, *, output_url: str, config: ScoringConfig) -> None:
        """Load the encoder, and the estimator where there is one.

        Args:
            output_url: where the rendered stories are; features are published there too.
            config: the encoder, the masks and the limits.

        Raises:
            OSError: a part of the encoder or the estimator is missing.
            ValueError: the output is not supported, or the parts do not belong to one CLIP.
        """
        self._output = Output(output_url)
        self._encoder = ClipEncoder(config)
        masks = None if config.masks is None else CharacterMasks(config.masks)
        estimator = _load_estimator(config)
        self._score_panels = PanelScorer(self._encoder, config.copy_share, masks, estimator)
        self._score_clip = ClipScorer(self._encoder, config.static_level)
        self._shard = lru_cache(maxsize=1)(partial(RenderedShard, self._output))

    def __call__(
        self, unit: ScoringUnit | ReferenceUnit
    ) -> tuple[StoryScores] | tuple[ReferenceScores]:
        """Score a story from its files, or sum the features of reference pictures up.

        Raises:
            FileNotFoundError: a manifest of the shard is missing.
            ValueError: a panel, keyframe or clip of the story is missing, damaged or does not fit
                its record; names the story, the shot and the file. Or a reference picture cannot be
                read, or there is none.
        """
        if isinstance(unit, ReferenceUnit):
            return (ReferenceScores(features=self._publish("reference", self._features(unit))),)
        return (self._score(unit),)

    def _score(self, unit: ScoringUnit) -> StoryScores:
        story = self._shard(unit.shard).story(unit.story_id)
        with naming(f"story {story.story_id}"):
            pictures = [read_picture(self._output, k, k.width, k.height) for k in story.keyframes]
            panels = self._score_panels(story.panels, pictures)
            clips = with_joins(list(self._clips(story)))
        return StoryScores(
            story_id=story.story_id,
            panels=panels.panels,
            clips=clips,
            film=score_film(story.story_id, panels, clips),
            features=self._publish(f"{unit.shard}/{story.story_id}", panels.features),
        )

    def _publish(self, name: str, features: FeatureStatistics) -> File:
        path = f"{FEATURES}/{name}.safetensors"
        return self._output.publish(path, save(features.arrays()))

    def _features(self, unit: ReferenceUnit) -> FeatureStatistics:
        return reduce(add, self._batches(unit))

    def _batches(self, unit: ReferenceUnit) -> Iterator[FeatureStatistics]:
        for batch in self._encoder.features(reference_pictures(unit.url)):
            yield FeatureStatistics.of(batch.embeds.float().cpu().numpy())
            beat()

    def _clips(self, story: RenderedStory) -> Iterator[ScoredClip]:
        with tempfile.TemporaryDirectory(prefix="scoring-") as name:
            for clip in story.clips:
                frames: list[Pixels] = list(clip_frames(self._output, clip, Path(name)))
                yield self._score_clip(clip, frames)
                beat()


def _load_estimator(config: ScoringConfig) -> TruthEstimator | None:
    if config.truth_estimator is None:
        return None
    loaded: TruthEstimator = load_part(TruthEstimator, config.truth_estimator, config.model)
    return loaded
