"""Ratios of means with confidence intervals; means themselves are `stages.scoring.bootstrap`'s."""

from collections.abc import Sequence

import numpy as np

from stages.scoring.bootstrap import INTERVAL, NUM_RESAMPLES, Estimate
from stages.seeds import derive_seed


def ratio_interval(
    numerators: Sequence[float], denominators: Sequence[float], groups: Sequence[str]
) -> Estimate:
    """The mean of the numerators over the mean of the denominators, and its 95 % interval.

    Both sides of a pair are resampled together, and so are all pairs of a group.

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
    names = sorted(set(groups))
    of_group = np.array([[group == name for group in groups] for name in names])
    totals = np.stack([of_group @ above, of_group @ below])
    times = np.stack([_times(name) for name in names])
    resampled = totals @ times
    filled = resampled[1] > 0
    low, high = np.percentile(resampled[0, filled] / resampled[1, filled], INTERVAL)
    alone = len(names) == 1
    return Estimate(
        mean=float(above.sum() / below.sum()),
        low=None if alone else float(low),
        high=None if alone else float(high),
        count=len(above),
        num_groups=len(names),
    )


def _times(name: str) -> np.ndarray:
    """How often each resample takes a group."""
    return np.random.default_rng(derive_seed("bootstrap", name)).poisson(1, NUM_RESAMPLES)
