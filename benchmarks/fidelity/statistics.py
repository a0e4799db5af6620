"""Means, shares and ratios of values that come in groups, with 95 % confidence intervals.

Values of one story are not independent, so it is stories whose spread says how sure a figure is.
They are few: intervals are Student's with one degree of freedom less than there are groups, and
those of shares Wilson's, which do not shrink to nothing where all values are alike. Resampling
groups, as `storyreel.stages.scoring.measures.bootstrap` does for thousands of stories, is too sure
of a dozen.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storyreel.stages.scoring.measures.bootstrap import MIN_GROUPS, MeanEstimate
from storyreel.stages.scoring.measures.student import student_quantile

LEVEL = 0.975
"""Of each side of an interval."""
Floats = NDArray[Any]


def ratio_interval(
    numerators: Sequence[float], denominators: Sequence[float], groups: Sequence[str]
) -> MeanEstimate:
    """The mean of the numerators over the mean of the denominators, and its 95 % interval.

    Its error is that of the ratio estimator of cluster samples (Cochran 1977, section 6.3), linear
    in the differences of the groups.

    Args:
        numerators, denominators: N paired values, the denominators above zero in the mean.
        groups: which story or clip each pair is of.

    Raises:
        ValueError: the lengths differ, or there are no values.
    """
    if not len(numerators) == len(denominators) == len(groups) > 0:
        sizes = len(numerators), len(denominators), len(groups)
        raise ValueError(f"{sizes} numerators, denominators and groups, must be the same, above 0")
    above, below = np.asarray(numerators, float), np.asarray(denominators, float)
    ratio = float(above.sum() / below.sum())
    apart = _totals(above - ratio * below, groups)
    estimate = MeanEstimate(
        mean=ratio, low=None, high=None, count=len(above), num_groups=len(apart)
    )
    if len(apart) < MIN_GROUPS:
        return estimate
    variance = len(apart) / (len(apart) - 1) * np.square(apart).sum()
    half = (
        student_quantile(LEVEL, len(apart) - 1) * float(np.sqrt(variance)) / abs(float(below.sum()))
    )
    return replace(estimate, low=ratio - half, high=ratio + half)


def mean_interval(values: Sequence[float], groups: Sequence[str]) -> MeanEstimate:
    """The mean of N values and its 95 % interval; `groups` says which story each is of.

    Raises:
        ValueError: the lengths differ, or there are no values.
    """
    return ratio_interval(values, [1.0] * len(values), groups)


def share_interval(hits: Sequence[float], groups: Sequence[str]) -> MeanEstimate:
    """The share of hits (0 or 1 each) and its 95 % interval inside [0, 1].

    Wilson's, with as many independent values as the differences between the groups leave (Dean and
    Pagano 2015). Where all values are alike nothing tells how those of a group depend on each
    other; then a group counts as one value.

    Raises:
        ValueError: the lengths differ, or there are no values.
    """
    estimate = mean_interval(hits, groups)
    if estimate.low is None:
        return estimate
    low, high = _wilson(
        estimate.mean, _independent(estimate), student_quantile(LEVEL, estimate.num_groups - 1)
    )
    return replace(estimate, low=low, high=high)


def share_difference_interval(differences: Sequence[float], groups: Sequence[str]) -> MeanEstimate:
    """The mean difference of two shares, of paired hits (-1, 0 or 1 each), and its 95 % interval.

    Where no pair differs, a group that does could still have been missed, to either side.

    Raises:
        ValueError: the lengths differ, or there are no values.
    """
    estimate = mean_interval(differences, groups)
    if estimate.low is None or any(differences):
        return estimate
    missed = share_interval(differences, groups).high
    assert missed is not None
    return replace(estimate, low=-missed, high=missed)


def _totals(values: Floats, groups: Sequence[str]) -> Floats:
    """The sum of each group."""
    _, places = np.unique(np.asarray(groups), return_inverse=True)
    totals: Floats = np.bincount(places, weights=values)
    return totals


def _independent(share: MeanEstimate) -> float:
    """The number of independent values with the information of these grouped ones."""
    assert share.high is not None
    error = (share.high - share.mean) / student_quantile(LEVEL, share.num_groups - 1)
    spread = share.mean * (1 - share.mean)
    return min(share.count, spread / error**2) if error > 0 and spread > 0 else share.num_groups


def _wilson(share: float, count: float, t: float) -> tuple[float, float]:
    """Wilson's score interval (1927), for `count` independent values."""
    middle = (share + t * t / (2 * count)) / (1 + t * t / count)
    half = t / (1 + t * t / count) * np.sqrt(share * (1 - share) / count + (t / (2 * count)) ** 2)
    # It holds the share; rounding must not push it out.
    return float(np.clip(middle - half, 0, share)), float(np.clip(middle + half, share, 1))
