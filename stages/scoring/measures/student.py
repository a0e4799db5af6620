"""The quantile of Student's t distribution."""

from scipy.special import stdtrit


def student_quantile(level: float, degrees: int) -> float:
    """Return the t below which `level` (in (0, 1)) of Student's distribution lies.

    For a two-sided interval of confidence c, `level` is (1 + c) / 2. Equal to
    `scipy.stats.t.ppf(level, degrees)`, without the second that importing `scipy.stats` takes.
    """
    return float(stdtrit(degrees, level))
