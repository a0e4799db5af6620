"""Student's quantile against the printed tables, where approximations are worst: few values."""

from statistics import NormalDist

import pytest

from storyreel.stages.scoring.measures.student import student_quantile


@pytest.mark.parametrize(
    ("level", "degrees", "expected"),
    [
        (0.95, 1, 6.314),
        (0.95, 2, 2.920),
        (0.95, 3, 2.353),
        (0.95, 10, 1.812),
        (0.975, 1, 12.706),
        (0.975, 2, 4.303),
        (0.975, 7, 2.365),
        (0.975, 1000, 1.962),
    ],
)
def test_it_is_that_of_the_tables(level: float, degrees: int, expected: float) -> None:
    assert student_quantile(level, degrees) == pytest.approx(expected, abs=0.0005)


def test_for_many_values_it_is_that_of_the_normal_distribution() -> None:
    assert student_quantile(0.95, 10**9) == pytest.approx(NormalDist().inv_cdf(0.95))
