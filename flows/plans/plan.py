"""Predicts what a job will take, from its stories and the rates of an earlier job.

Every figure has the bounds of a 90 % interval.
"""

import math
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, variance
from typing import TypeAlias

from storyreel.flows.job.config import RenderConfig
from storyreel.flows.job.stage_table import StageTable
from storyreel.flows.job.stages import STAGES, film_frames
from storyreel.flows.job.window import Window
from storyreel.flows.plans.rates import StageRate
from storyreel.stages.errors import InputError
from storyreel.stages.output.records import Story, Storyboard
from storyreel.stages.output.serialization import to_json
from storyreel.stages.output.storage import Output
from storyreel.stages.scoring.measures.student import student_quantile

PLAN = "plan.json"

CONFIDENCE = 0.9
"""Probability that a figure lies between its bounds."""

LEVEL = (1 + CONFIDENCE) / 2

MAX_STORIES = 1000
"""Stories that are split to estimate the totals; more would hardly narrow the intervals."""

MIN_UNITS = 2
"""Units of a stage that must have been measured; the variance needs two."""

Split: TypeAlias = Callable[[Story], tuple[Storyboard]]
"""Turns a story into its storyboard, as the prompts stage does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A predicted value with the bounds of its 90 % interval."""

    value: float
    low: float
    high: float

    def scaled(self, factor: float) -> "Interval":
        """The interval of `factor` times the value; `factor` must not be negative."""
        return Interval(value=self.value * factor, low=self.low * factor, high=self.high * factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """The cost of a stage of a job; `items` is the amount of its work (`StageSpec.items`)."""

    stage: str
    units: Interval
    items: Interval
    actor_hours: Interval
    gigabytes: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlan:
    """The cost of a job on the configured number of actors and on the measured hardware.

    Attributes:
        frames: frames of all films.
        film_hours: duration of all films.
        hours: time from start to end if no actor of the slower pool is ever idle.
        nights: openings of the render window that this fills; `None` without a window.
        gigabytes: size of the files that the job keeps (`retention.keep`).
        hardware: hardware classes on which the rates were measured.
    """

    stories: int
    shots: Interval
    frames: Interval
    film_hours: Interval
    stages: tuple[StagePlan, ...]
    hours: Interval
    nights: Interval | None
    gigabytes: Interval
    hardware: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Size:
    """Shots and film frames of one story, and its units and items by stage."""

    shots: int
    frames: int
    units: dict[str, int]
    items: dict[str, int]


def make_plan(
    stories: Sequence[Story],
    num_stories: int,
    split: Split,
    config: RenderConfig,
    rates: dict[str, StageRate],
    stages: StageTable = STAGES,
) -> JobPlan:
    """Plan a job.

    Args:
        stories: all stories of the job, or an evenly spread part of them.
        num_stories: number of stories of the job.
        split: returns the storyboard of a story; a ValueError of it counts as a failed story.
        config: the job's configuration.
        rates: what each stage took in an earlier job of this configuration.
        stages: the stages of the job.

    Raises:
        ValueError: a stage was not measured, or a unit of it does not fit into the window.
    """
    _check_rates(rates, stages)
    sizes = [size for story in stories if (size := _size(story, split, stages)) is not None]
    if not sizes:
        raise InputError("the plan: none of the stories can be split into panels")
    share = len(sizes) / len(stories)  # the other stories will be failures
    counts = _Counts(sizes, round(num_stories * share))
    plans = {spec.name: _plan_stage(spec.name, counts, rates[spec.name]) for spec in stages}
    removed = stages.intermediate if config.retention.keep == "films" else ()
    kept = plans.keys() - {spec.name for spec in removed}
    hours = _hours(plans, config, stages)
    frames = counts.total(lambda size: size.frames)
    return JobPlan(
        stories=num_stories,
        shots=counts.total(lambda size: size.shots),
        frames=frames,
        film_hours=frames.scaled(1 / config.films.fps / 3600),
        stages=tuple(plans.values()),
        hours=hours,
        nights=_nights(hours, config, rates),
        gigabytes=_sum(plan.gigabytes for name, plan in plans.items() if name in kept),
        hardware=tuple(sorted({rate.hardware for rate in rates.values()})),
    )


def check_space(plan: JobPlan, output: Output) -> None:
    """Raise ValueError if the files that a job keeps do not fit on the output's local disk."""
    location = Path(output.location(""))
    if not location.is_absolute():
        return  # an object store is never full
    there = next(path for path in (location, *location.parents) if path.exists())
    free = shutil.disk_usage(there).free / 1e9
    if plan.gigabytes.value > free:
        raise InputError(
            f"output {output.url}: the job needs {plan.gigabytes.value:.1f} GB, and"
            f" {free:.1f} GB are free there; free some, or choose another output"
        )


def write_plan(output: Output, plan: JobPlan) -> None:
    """Store the plan at the job's output, to compare it with what the job takes."""
    output.publish(PLAN, to_json(plan))


def read_plan(output: Output) -> JobPlan | None:
    """Read the plan that is stored at an output; `None` if there is none."""
    try:
        return output.read_record(PLAN, JobPlan)
    except FileNotFoundError:
        return None


def missing_rates(rates: dict[str, StageRate], stages: StageTable = STAGES) -> str | None:
    """Say which stages were not measured often enough for a plan; `None` if all were."""
    few = [s for s in stages.names if s not in rates or rates[s].num_units < MIN_UNITS]
    return f"fewer than {MIN_UNITS} units of {', '.join(few)} were measured" if few else None


def _check_rates(rates: dict[str, StageRate], stages: StageTable) -> None:
    if missing := missing_rates(rates, stages):
        raise InputError(
            f"the plan: {missing}; name with --rates the output of an earlier job of this"
            " configuration, or render with --sample 4 first"
        )


def _size(story: Story, split: Split, stages: StageTable) -> _Size | None:
    try:
        (storyboard,) = split(story)
    except ValueError:
        return None  # the same error is reported as a failure when the job runs
    return _Size(
        shots=len(storyboard.shots),
        frames=film_frames(storyboard),
        units={spec.name: spec.planned_units(storyboard) for spec in stages},
        items={spec.name: spec.planned_items(storyboard) for spec in stages},
    )


class _Counts:
    """Extrapolates what was counted in some stories to all stories of a job."""

    def __init__(self, sizes: Sequence[_Size], num_stories: int) -> None:
        self._sizes = sizes
        self._num_stories = num_stories

    def total(self, count: Callable[[_Size], int]) -> Interval:
        """The sum over all stories; exact if all of them were counted."""
        counted = [count(size) for size in self._sizes]
        value = self._num_stories * fmean(counted)
        seen = len(counted) / max(1, self._num_stories)
        if seen >= 1 or len(counted) < 2:
            return Interval(value=value, low=value, high=value)
        error = self._num_stories * math.sqrt(variance(counted) / len(counted) * (1 - seen))
        margin = student_quantile(LEVEL, len(counted) - 1) * error
        return Interval(value=value, low=max(0.0, value - margin), high=value + margin)


def _plan_stage(stage: str, counts: _Counts, rate: StageRate) -> StagePlan:
    units = counts.total(lambda size: size.units[stage])
    items = counts.total(lambda size: size.items[stage])
    # A job without rendered motion has no items of it; then all units count alike.
    measured = items.scaled(1 / rate.items_per_unit) if rate.items_per_unit else units
    return StagePlan(
        stage=stage,
        units=units,
        items=items,
        actor_hours=_widened(measured.scaled(rate.mean_s / 3600), units, rate),
        gigabytes=measured.scaled(rate.bytes_per_unit / 1e9),
    )


def _widened(hours: Interval, units: Interval, rate: StageRate) -> Interval:
    """Widen by the standard error of the measured mean and by the scatter of the units to come."""
    if not hours.value:
        return hours
    spread = rate.variance_s2 / rate.mean_s**2
    relative = math.sqrt(spread / rate.num_units + spread / max(1.0, units.value))
    margin = student_quantile(LEVEL, rate.num_units - 1) * relative * hours.value
    return Interval(
        value=hours.value,
        low=max(0.0, hours.value - math.hypot(margin, hours.value - hours.low)),
        high=hours.value + math.hypot(margin, hours.high - hours.value),
    )


def _sum(intervals: Iterable[Interval]) -> Interval:
    """The sum of values with independent errors."""
    terms = list(intervals)
    value = sum(term.value for term in terms)
    return Interval(
        value=value,
        low=max(0.0, value - math.hypot(*(term.value - term.low for term in terms))),
        high=value + math.hypot(*(term.high - term.value for term in terms)),
    )


def _hours(plans: dict[str, StagePlan], config: RenderConfig, stages: StageTable) -> Interval:
    """The time that the slowest pool needs, on all of its actors."""
    pools = {
        pool: _sum(plans[spec.name].actor_hours for spec in stages.in_pool(pool)).scaled(
            1 / getattr(config.pools, pool).num_actors
        )
        for pool in {spec.pool for spec in stages}
    }
    return max(pools.values(), key=lambda hours: hours.value)


def _nights(hours: Interval, config: RenderConfig, rates: dict[str, StageRate]) -> Interval | None:
    if config.execution.window is None:
        return None
    window = Window.parse(config.execution.window)
    longest_s = max(rate.longest_s for rate in rates.values())
    if longest_s > window.length_s:
        raise InputError(
            f"window {window}: is {window.length_s / 60:.0f} min long, and a unit takes up to"
            f" {longest_s / 60:.1f} min; nothing could start in it"
        )
    # At the end of a night an actor is idle for, on average, half the duration of a unit.
    usable = (window.length_s - longest_s / 2) / 3600
    return Interval(
        value=math.ceil(hours.value / usable),
        low=math.ceil(hours.low / usable),
        high=math.ceil(hours.high / usable),
    )
