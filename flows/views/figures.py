"""Figures as people read them: durations, rates, sizes, and estimates with their intervals."""

from storyreel.flows.plans.plan import Interval

_UNITS_OF_HOURS = (("h", 1.0), ("min", 60.0), ("s", 3600.0))


def format_duration(seconds: float) -> str:
    """A length of time in its two largest units, such as `3 h 20 min`."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    if hours:
        return f"{hours} h {m} min"
    return f"{m} min {s} s" if m else f"{s} s"


def format_rate(per_second: float) -> str:
    """A rate in units per second or, if it is below one, per minute: `4.0/s`, `1.2/min`."""
    return f"{per_second:.1f}/s" if per_second >= 1 else f"{60 * per_second:.1f}/min"


def format_interval(interval: Interval) -> str:
    """A figure and its bounds, such as `120 (98 to 150)`; the bounds only if they differ."""
    value, low, high = (_number(x) for x in (interval.value, interval.low, interval.high))
    return value if low == high else f"{value} ({low} to {high})"


def format_hours(hours: Interval) -> str:
    """A length of time with its bounds, in hours, minutes or seconds."""
    unit, factor = next(
        pair for pair in _UNITS_OF_HOURS if hours.high * pair[1] >= 1 or pair[0] == "s"
    )
    return f"{format_interval(hours.scaled(factor))} {unit}"


def format_size(gigabytes: Interval) -> str:
    """An amount of storage with its bounds, in GB or MB."""
    if gigabytes.high >= 1:
        return f"{format_interval(gigabytes)} GB"
    return f"{format_interval(gigabytes.scaled(1000))} MB"


def _number(value: float) -> str:
    """Two or three digits: more would promise a precision that an estimate does not have."""
    return f"{value:.0f}" if value >= 100 or value == 0 else f"{value:.2g}"
