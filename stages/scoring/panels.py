"""The panels of one story against their prompts and against each other."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from torch import Tensor

from storyreel.stages.output.records import Panel
from storyreel.stages.scoring.masks import CharacterMasks
from storyreel.stages.scoring.measures.characters import (
    Pair,
    character_pairs,
    cut_out,
    pair_similarities,
)
from storyreel.stages.scoring.measures.copies import copied_share
from storyreel.stages.scoring.measures.encoder import ClipEncoder
from storyreel.stages.scoring.measures.frechet import FeatureStatistics
from storyreel.stages.scoring.measures.text_image import clip_score, cosine, retrieved
from storyreel.stages.scoring.measures.tiles import Pixels, reduced
from storyreel.stages.scoring.measures.truth import (
    Seen,
    TruthEstimator,
    same_characters,
    same_clothes,
)
from storyreel.stages.scoring.records import PanelScore


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelScores:
    """A story's panels: a score each, and what was found in pairs of them.

    Attributes:
        characters: the similarity of every pair that should show the same character.
        copies: of every pair with different prompts, whether the one copies the other.
        same_characters, same_clothes: the estimator's judgement of every pair that should
            show the same character; empty without one.
        features: the image embeddings of all of them, summed up.
    """

    panels: tuple[PanelScore, ...]
    characters: Mapping[Pair, float]
    copies: Mapping[Pair, bool]
    same_characters: Mapping[Pair, bool]
    same_clothes: Mapping[Pair, bool]
    features: FeatureStatistics


class PanelScorer:
    """Scores the panels of a story."""

    def __init__(
        self,
        encoder: ClipEncoder,
        copy_share: float,
        masks: CharacterMasks | None = None,
        estimator: TruthEstimator | None = None,
    ) -> None:
        self._encoder = encoder
        self._copy_share = copy_share
        self._masks = masks
        self._estimator = estimator

    def __call__(self, panels: Sequence[Panel], pictures: Sequence[Pixels]) -> PanelScores:
        """Score at least one panel; `pictures` (H, W, 3) are in the order of the panels."""
        prompts = [panel.prompt for panel in panels]
        images, texts = self._encoder.pictures(pictures), self._encoder.texts(prompts)
        cut = images if self._masks is None else self._characters(panels, pictures, self._masks)
        pairs = character_pairs(panels)
        characters = pair_similarities(cut, pairs)
        seen = self._look(pictures)
        same = _judged(same_characters, seen, pairs)
        clothed = _judged(same_clothes, seen, pairs)
        shares = self._copied_shares(prompts, pictures)
        cosines = cosine(images, texts)
        hits = retrieved(images, texts, prompts)
        return PanelScores(
            panels=tuple(
                PanelScore(
                    story_id=panel.story_id,
                    keyframe_index=panel.keyframe_index,
                    text_similarity=float(cosines[place]),
                    clip_score=float(clip_score(cosines[place])),
                    retrieved=None if hits is None else hits[place],
                    character_similarity=_mean(_of(place, characters)),
                    copied_share=(share := max(_of(place, shares), default=None)),
                    copied=None if share is None else share >= self._copy_share,
                    same_characters=_mean(_of(place, same)),
                    same_clothes=_mean(_of(place, clothed)),
                    seen_place=None if sight is None else sight.place,
                    seen_time=None if sight is None else sight.time_of_day,
                    seen_figures=None if sight is None else sight.figures,
                )
                for place, (panel, sight) in enumerate(zip(panels, seen, strict=True))
            ),
            characters=characters,
            copies={pair: share >= self._copy_share for pair, share in shares.items()},
            same_characters=same,
            same_clothes=clothed,
            features=FeatureStatistics.of(images.numpy()),
        )

    def _look(self, pictures: Sequence[Pixels]) -> Sequence[Seen | None]:
        """The estimator's view of each picture; empty without an estimator."""
        return [None] * len(pictures) if self._estimator is None else self._estimator.look(pictures)

    def _characters(
        self, panels: Sequence[Panel], pictures: Sequence[Pixels], masks: CharacterMasks
    ) -> Tensor:
        found = map(masks.find, panels, pictures)
        return self._encoder.pictures(
            picture if mask is None else cut_out(picture, mask)
            for picture, mask in zip(pictures, found, strict=True)
        )

    def _copied_shares(
        self, prompts: Sequence[str], pictures: Sequence[Pixels]
    ) -> dict[Pair, float]:
        small = [reduced(picture) for picture in pictures]
        return {
            (i, j): copied_share(small[i], small[j])
            for i, j in combinations(range(len(small)), 2)
            if prompts[i] != prompts[j]
        }


def _judged(
    judge: Callable[[Seen, Seen], bool], seen: Sequence[Seen | None], pairs: Sequence[Pair]
) -> dict[Pair, bool]:
    """A judgement of every pair of pictures that the estimator has seen."""
    both = {(i, j): (seen[i], seen[j]) for i, j in pairs}
    return {
        pair: judge(first, second)
        for pair, (first, second) in both.items()
        if first is not None and second is not None
    }


def _of(place: int, pairs: Mapping[Pair, float]) -> list[float]:
    """The values of the pairs that a panel is in."""
    return [value for pair, value in pairs.items() if place in pair]


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
