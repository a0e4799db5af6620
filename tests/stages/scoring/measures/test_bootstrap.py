"""Intervals that hold what they promise."""

import numpy as np
import pytest

from storyreel.stages.scoring.measures.bootstrap import BootstrapMean, mean_interval


def test_the_interval_covers_the_true_mean_about_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        estimate = mean_interval(rng.exponential(size=40))
        assert estimate is not None
        assert estimate.low is not None
        assert estimate.high is not None
        covered += estimate.low <= 1 <= estimate.high
    assert 0.88 <= covered / 200 <= 0.99


def test_panels_of_one_story_do_not_make_the_mean_surer_than_stories_do() -> None:
    """Ten copies of every value are no ten times as many values."""
    values = np.random.default_rng(1).normal(size=30)
    names = [f"story {i}" for i in range(30)]
    single = mean_interval(values, names)
    tenfold = mean_interval(np.repeat(values, 10), np.repeat(names, 10).tolist())
    assert single is not None
    assert tenfold is not None
    assert (tenfold.low, tenfold.high) == pytest.approx((single.low, single.high))
    assert (tenfold.count, tenfold.num_groups) == (300, 30)


def test_long_stories_count_by_their_panels() -> None:
    estimate = mean_interval([1, 1, 1, 5], ["long", "long", "long", "short"])
    assert estimate is not None
    assert estimate.mean == 2


def test_the_order_of_stories_changes_nothing() -> None:
    values, names = [3.0, 1.0, 2.0], ["c", "a", "b"]
    again = mean_interval(values[::-1], names[::-1])
    assert again == mean_interval(values, names)


def test_equal_values_have_a_sharp_interval() -> None:
    estimate = mean_interval([0.25] * 7)
    assert estimate is not None
    assert (estimate.mean, estimate.low, estimate.high) == (0.25, 0.25, 0.25)


def test_one_story_has_a_mean_and_no_interval_and_none_has_neither() -> None:
    estimate = mean_interval([1, 3], ["only", "only"])
    assert estimate is not None
    assert (estimate.mean, estimate.low, estimate.high) == (2, None, None)
    assert mean_interval([]) is None


def test_a_value_that_is_no_number_is_refused_with_its_story() -> None:
    with pytest.raises(ValueError, match=r"fox: .*nan"):
        BootstrapMean().add("fox", [1.0, float("nan")])
