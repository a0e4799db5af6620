"""Means with confidence intervals, in one pass over the values and in constant memory.

Values of one story are not independent, so stories are what is resampled. In the Poisson bootstrap
(Hanley and MacGibbon 2006; Chamandy et al. 2012) each of R resamples takes a story n times, n drawn
from Poisson(1), instead of drawing stories until it is full; nothing has to be kept.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count

import numpy as np

from storyreel.stages.seeds import derive_seed

NUM_RESAMPLES = 2000
INTERVAL = (2.5, 97.5)
"""Percentiles of the resamples' means between which 95 % of them lie."""
MIN_GROUPS = 2
"""One story says nothing about how stories differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanEstimate:
    """A mean over `count` values of `num_groups` groups; the interval is null for one group."""

    mean: float
    low: float | None
    high: float | None
    count: int
    num_groups: int


class BootstrapMean:
    """The mean of values that come in groups, and its 95 % interval over groups."""

    def __init__(self) -> None:
        self._totals = np.zeros(NUM_RESAMPLES)
        self._counts = np.zeros(NUM_RESAMPLES)
        self._total = 0.0
        self._count = 0
        self._num_groups = 0

    def add(self, group: str, values: Iterable[float]) -> None:
        """Add all the values of one group; a group's name decides which resamples take it.

        Raises:
            ValueError: a value is not finite.
        """
        of_group = np.fromiter(values, dtype=np.float64)
        if not np.isfinite(of_group).all():
            raise ValueError(f"{group}: {of_group.tolist()}: values must be finite")
        if not of_group.size:
            return
        times = np.random.default_rng(derive_seed("bootstrap", group)).poisson(1, NUM_RESAMPLES)
        self._totals += times * of_group.sum()
        self._counts += times * of_group.size
        self._total += of_group.sum()
        self._count += of_group.size
        self._num_groups += 1

    def estimate(self) -> MeanEstimate | None:
        """The mean so far; none before the first value."""
        if not self._count:
            return None
        low = high = None
        if self._num_groups >= MIN_GROUPS:
            filled = self._counts > 0
            means = self._totals[filled] / self._counts[filled]
            low, high = map(float, np.percentile(means, INTERVAL))
        return MeanEstimate(
            mean=float(self._total / self._count),
            low=low,
            high=high,
            count=self._count,
            num_groups=self._num_groups,
        )


def mean_interval(
    values: Iterable[float], groups: Iterable[str] | None = None
) -> MeanEstimate | None:
    """The mean of values and its 95 % bootstrap interval; none without values.

    For what one method costs against another, give it the differences, pair by pair.

    Args:
        values: finite numbers.
        groups: which story each is of; without, each value is a group of its own.
    """
    by_group: dict[str, list[float]] = {}
    for group, value in zip(groups or map(str, count()), values, strict=groups is not None):
        by_group.setdefault(group, []).append(value)
    mean = BootstrapMean()
    for group, of_group in by_group.items():
        mean.add(group, of_group)
    return mean.estimate()
