"""From the results of single stories and clips to means with 95 % confidence intervals."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from types import MappingProxyType

import numpy as np

from benchmarks.fidelity.keyframes import agreement, story_agreements
from benchmarks.fidelity.results import Result, Row
from benchmarks.fidelity.statistics import (
    mean_interval,
    share_difference_interval,
    share_interval,
)
from storyreel.stages.scoring.measures.bootstrap import MeanEstimate
from storyreel.stages.scoring.records import CLOTHES

Measure = Callable[[Result], Sequence[float]]
"""All values of one kind in a story's result."""
SIMILARITIES = ("text_similarity", "character_similarity")
"""Cosines in [-1, 1]."""


def _panels(name: str) -> Measure:
    return lambda result: [panel[name] for panel in result["panels"]]


def _part(index: int) -> Measure:
    return lambda result: [pair[index] for pair in story_agreements(result)]


def _values(name: str) -> Measure:
    return lambda result: result[name] or []


STORY_MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "clothes": lambda result: [all(pair) for pair in story_agreements(result)],
        **{name: _part(index) for index, name in enumerate(CLOTHES)},
        **{name: _panels(name) for name in ("character", "action", "place", "time", "number")},
        "cast": lambda result: [one["character"] and one["number"] for one in result["panels"]],
        **{name: _values(name) for name in ("retrieved", "copied", *SIMILARITIES)},
    }
)
"""What is a share of hits, but for `SIMILARITIES`."""


def results(row: Row, units: Sequence[str]) -> list[Result]:
    """The results of these units; empty if one of them is missing."""
    return [row.read(unit) for unit in units] if all(row.has(unit) for unit in units) else []


def story_estimate(of_stories: Sequence[Result], measure: str) -> MeanEstimate:
    """The mean of a measure, and its interval over stories.

    Raises:
        ValueError: no story has a value.
    """
    taken = [(result["story"], STORY_MEASURES[measure](result)) for result in of_stories]
    interval = mean_interval if measure in SIMILARITIES else share_interval
    return interval(
        [float(value) for _, values in taken for value in values],
        [story for story, values in taken for _ in values],
    )


def story_difference(
    ours: Sequence[Result], theirs: Sequence[Result], measure: str
) -> MeanEstimate:
    """The share of ours minus that of theirs, panel by panel of the same noise."""
    differences, groups = [], []
    for mine, other in zip(ours, theirs, strict=True):
        assert mine["story"] == other["story"]
        measured = STORY_MEASURES[measure]
        pairs = list(zip(measured(mine), measured(other), strict=True))
        differences += [float(a) - float(b) for a, b in pairs]
        groups += [mine["story"]] * len(pairs)
    return share_difference_interval(differences, groups)


def clip_estimate(of_clips: Sequence[Result], measure: str) -> MeanEstimate:
    """The mean of a measure over clips."""
    values = [result[measure] for result in of_clips]
    return mean_interval(values, [str(index) for index in range(len(values))])


def clip_difference(ours: Sequence[Result], theirs: Sequence[Result], measure: str) -> MeanEstimate:
    """The mean of ours minus theirs, clip by clip of the same noise."""
    pairs = zip(ours, theirs, strict=True)
    differences = [mine[measure] - other[measure] for mine, other in pairs]
    return mean_interval(differences, [str(index) for index in range(len(differences))])


def chance(of_stories: Sequence[Result]) -> float | None:
    """Share of pairs of figures of different stories in the same clothes; `None` for one story."""
    worn = [
        (result["story"], clothes)
        for result in of_stories
        for panel in result["panels"]
        for clothes in panel["clothes"].values()
    ]
    agreed = [
        all(agreement(first, second))
        for (story, first), (other, second) in combinations(worn, 2)
        if story != other
    ]
    return float(np.mean(agreed)) if agreed else None


def flat_estimate(groups: Mapping[str, Sequence[float]]) -> MeanEstimate:
    """The mean of values that come in groups."""
    return mean_interval(*_flat(groups))


def flat_share(groups: Mapping[str, Sequence[bool]]) -> MeanEstimate:
    """The share of hits that come in groups."""
    return share_interval(*_flat(groups))


def _flat(groups: Mapping[str, Sequence[float]]) -> tuple[list[float], list[str]]:
    values = [float(value) for of_group in groups.values() for value in of_group]
    return values, [group for group, of_group in groups.items() for _ in of_group]
