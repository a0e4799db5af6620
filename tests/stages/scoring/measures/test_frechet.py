"""The Frechet distance against what is known of it."""

import numpy as np
import pytest

from storyreel.stages.scoring.measures.frechet import FeatureStatistics, frechet_distance

RNG = np.random.default_rng(0)


def gaussian(mean: list[float], covariance: np.ndarray, count: int = 500) -> np.ndarray:
    """Features with exactly these moments."""
    noise = RNG.normal(size=(count, len(mean)))
    noise -= noise.mean(axis=0)
    white = noise @ np.linalg.inv(np.linalg.cholesky(noise.T @ noise / count)).T
    return np.asarray(white @ np.linalg.cholesky(covariance).T + mean)


def distance(first: np.ndarray, second: np.ndarray) -> float:
    return frechet_distance(FeatureStatistics.of(first), FeatureStatistics.of(second))


def test_a_set_is_at_no_distance_from_itself() -> None:
    features = RNG.normal(size=(200, 16))
    assert distance(features, features) == pytest.approx(0, abs=1e-9)


def test_independent_channels_give_the_closed_form() -> None:
    first = gaussian([0, 1, 2], np.diag([1.0, 4, 9]))
    second = gaussian([1, 1, 0], np.diag([4.0, 4, 1]))
    assert distance(first, second) == pytest.approx((1 + 0 + 4) + (1 + 0 + 4))


def test_channels_that_do_not_commute_give_the_closed_form() -> None:
    one, other = np.array([[2.0, 1], [1, 2]]), np.array([[3.0, 0], [0, 1]])
    # In two dimensions tr (AB)^(1/2) = sqrt(tr AB + 2 sqrt det AB).
    root = np.sqrt(np.trace(one @ other) + 2 * np.sqrt(np.linalg.det(one @ other)))
    found = distance(gaussian([0, 0], one), gaussian([0, 0], other))
    assert found == pytest.approx(np.trace(one) + np.trace(other) - 2 * root)
    assert distance(gaussian([0, 0], other), gaussian([0, 0], one)) == pytest.approx(found)


def test_sums_in_parts_are_those_of_the_whole() -> None:
    features, others = RNG.normal(size=(100, 8)), RNG.normal(2, 3, size=(50, 8))
    parts = FeatureStatistics.of(features[:30]) + FeatureStatistics.of(features[30:])
    whole = frechet_distance(FeatureStatistics.of(features), FeatureStatistics.of(others))
    assert frechet_distance(parts, FeatureStatistics.of(others)) == pytest.approx(whole)
    assert FeatureStatistics.of_arrays(parts.arrays()).mean == pytest.approx(features.mean(axis=0))


@pytest.mark.parametrize("count", [1, 3])
def test_fewer_pictures_than_channels_give_a_number(count: int) -> None:
    few = RNG.normal(size=(count, 64))
    assert distance(few, few) == pytest.approx(0, abs=1e-9)
    assert np.isfinite(distance(few, RNG.normal(size=(2, 64))))


def test_identical_pictures_give_a_number() -> None:
    assert distance(np.ones((5, 4)), np.zeros((5, 4))) == pytest.approx(4)


def test_sets_that_cannot_be_compared_are_refused() -> None:
    one = FeatureStatistics.of(np.ones((2, 4)))
    with pytest.raises(ValueError, match="4 and 5 channels"):
        _ = one + FeatureStatistics.of(np.ones((2, 5)))
    with pytest.raises(ValueError, match="4 and 5 channels"):
        frechet_distance(one, FeatureStatistics.of(np.ones((2, 5))))
    with pytest.raises(ValueError, match="without features"):
        frechet_distance(one, FeatureStatistics.of(np.ones((0, 4))))
