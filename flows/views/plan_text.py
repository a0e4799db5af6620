"""A job's plan as markdown, alone or held against what the job took."""

from collections.abc import Mapping

from storyreel.flows.plans.plan import Interval, JobPlan
from storyreel.flows.plans.rates import StageRate

_TIMES = (("h", 1.0), ("min", 60.0), ("s", 3600.0))


def plan_markdown(plan: JobPlan) -> str:
    """A job\'s plan as a markdown table; each figure has the bounds of its interval."""
    nights = f" in {_text(plan.nights)} nights" if plan.nights else ""
    lines = [
        f"**Plan** (90 % intervals): {plan.stories} stories, {_time(plan.film_hours)} of film,"
        f" {_time(plan.hours)} on the cluster{nights}, {_size(plan.gigabytes)}.",
        "",
        "| stage | units | one actor's time | storage |",
        "|---|---:|---:|---:|",
    ]
    for stage in plan.stages:
        figures = (_text(stage.units), _time(stage.actor_hours), _size(stage.gigabytes))
        lines.append(f"| {stage.stage} | {' | '.join(figures)} |")
    return "\n".join(lines)


def plan_against_actual(plan: JobPlan, rates: Mapping[str, StageRate]) -> str:
    """The planned time of the actors beside what was measured so far."""
    lines = ["| stage | planned | measured so far |", "|---|---:|---:|"]
    for stage in plan.stages:
        rate = rates.get(stage.stage)
        actual = time_text(rate.num_units * rate.mean_s / 3600 if rate else 0.0)
        lines.append(f"| {stage.stage} | {_time(stage.actor_hours)} | {actual} |")
    return "\n".join(lines)


def time_text(hours: float) -> str:
    """In hours, minutes or seconds, whichever is readable."""
    return _time(Interval(value=hours, low=hours, high=hours))


def _time(hours: Interval) -> str:
    unit, factor = next(pair for pair in _TIMES if hours.high * pair[1] >= 1 or pair[0] == "s")
    return f"{_text(hours.scaled(factor))} {unit}"


def _size(gigabytes: Interval) -> str:
    if gigabytes.high >= 1:
        return f"{_text(gigabytes)} GB"
    return f"{_text(gigabytes.scaled(1000))} MB"


def _text(estimate: Interval) -> str:
    value, low, high = (_number(x) for x in (estimate.value, estimate.low, estimate.high))
    return value if low == high else f"{value} ({low} to {high})"


def _number(value: float) -> str:
    """Three digits, and none behind the point where they say nothing."""
    return f"{value:.0f}" if value >= 100 or value == 0 else f"{value:.2g}"
