"""What a job will take, before it is rendered: from its stories and the rates of an earlier one.

Every figure is an estimate with the bounds of an interval that holds it in nine of ten cases.
"""

import json
import math
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import NormalDist, fmean, variance
from typing import TypeAlias

from storyreel.flows.job.config import RenderConfig, RetentionConfig
from storyreel.flows.job.retention import STAGES_LET_GO
from storyreel.flows.job.window import Window
from storyreel.flows.plans.rates import StageRate
from storyreel.flows.run.shards import POOL_OF_STAGE, STAGES
from storyreel.stages.output.records import ShotKind, Story, Storyboard, from_row
from storyreel.stages.output.storage import Output

PLAN = "plan.json"

CONFIDENCE = 0.9
"""How often a figure is between its bounds."""

MAX_STORIES = 1000
"""Stories that are split to count what is in all of them; more would not tell more."""

MIN_UNITS = 2
"""Units of a stage that must have been measured; one says nothing about how they differ."""

Split: TypeAlias = Callable[[Story], tuple[Storyboard]]
"""The prompts stage, or what stands for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure, and the bounds between which it is in nine of ten cases."""

    value: float
    low: float
    high: float

    def scaled(self, factor: float) -> "Estimate":
        """The estimate of so many times the figure."""
        return Estimate(value=self.value * factor, low=self.low * factor, high=self.high * factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """What a stage of a job takes; `items` is what its work grows with (`StageRate`)."""

    stage: str
    units: Estimate
    items: Estimate
    actor_hours: Estimate
    gigabytes: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a job takes: on the configured number of actors, on the hardware that was measured.

    `hours` is the time from start to end with both pools at work all the time; `nights` counts the
    openings of the window that it fills, none without a window. `film_hours` is what people see,
    `gigabytes` what stays: no more than the films where the job lets go what they are made of.
    """

    stories: int
    shots: Estimate
    frames: Estimate
    film_hours: Estimate
    stages: tuple[StagePlan, ...]
    hours: Estimate
    nights: Estimate | None
    gigabytes: Estimate
    hardware: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Size:
    """What one story comes to, by stage: its units and their items."""

    units: dict[str, int]
    items: dict[str, int]


def make_plan(
    stories: Sequence[Story], num_stories: int, split: Split, config: RenderConfig,
    rates: dict[str, StageRate],
) -> Plan:  # fmt: skip
    """Plan a job.

    Args:
        stories: those of the job, or some that stand for all, evenly spread.
        num_stories: how many the job has.
        split: turns a story into its storyboard.
        config: the job's configuration.
        rates: what each stage took in an earlier job of this configuration.

    Raises:
        ValueError: a stage was not measured, or a unit of it does not fit into the window.
    """
    _check_rates(rates)
    sizes = [size for story in stories if (size := _size(story, split)) is not None]
    if not sizes:
        raise ValueError("the plan: none of the stories can be split into panels")
    share = len(sizes) / len(stories)  # the others will be failures
    counts = _Counts(sizes, round(num_stories * share))
    stages = tuple(_plan_stage(stage, counts, rates[stage]) for stage in STAGES)
    hours = _hours(stages, config)
    frames = counts.total(lambda size: size.items["films"])
    return Plan(
        stories=num_stories,
        shots=counts.total(lambda size: size.units["motion"]),
        frames=frames,
        film_hours=frames.scaled(1 / config.films.fps / 3600),
        stages=stages,
        hours=hours,
        nights=_nights(hours, config, rates),
        gigabytes=_sum(s.gigabytes for s in stages if _stays(s.stage, config.retention)),
        hardware=tuple(sorted({rate.hardware for rate in rates.values()})),
    )


def check_space(plan: Plan, output: Output) -> None:
    """Raise ValueError where the plan's files do not fit on the local disk of the output."""
    location = Path(output.location(""))
    if not location.is_absolute():
        return  # an object store has no end
    there = next(path for path in (location, *location.parents) if path.exists())
    free = shutil.disk_usage(there).free / 1e9
    if plan.gigabytes.value > free:
        raise ValueError(
            f"output {output.url}: the job needs {plan.gigabytes.value:.1f} GB, and"
            f" {free:.1f} GB are free there; free some, or choose another output"
        )


def write_plan(output: Output, plan: Plan) -> None:
    """Keep the plan at the job's output, so that it can be held against what comes."""
    output.publish(PLAN, json.dumps(asdict(plan), indent=1).encode())


def read_plan(output: Output) -> Plan | None:
    """The plan that was kept at an output, if one was."""
    try:
        return output.read_json(PLAN, partial(from_row, Plan))
    except FileNotFoundError:
        return None


def _stays(stage: str, config: RetentionConfig) -> bool:
    return config.keep != "films" or stage not in STAGES_LET_GO


def what_rates_lack(rates: dict[str, StageRate]) -> str | None:
    """Why rates do not tell what a job takes, if they do not."""
    few = [s for s in STAGES if s not in rates or rates[s].num_units < MIN_UNITS]
    return f"fewer than {MIN_UNITS} units of {', '.join(few)} were measured" if few else None


def _check_rates(rates: dict[str, StageRate]) -> None:
    if lack := what_rates_lack(rates):
        raise ValueError(
            f"the plan: {lack}; name with --rates the output of an earlier job of this"
            " configuration, or render with --sample 4 first"
        )


def _size(story: Story, split: Split) -> _Size | None:
    try:
        (board,) = split(story)
    except ValueError:
        return None  # a failure of the job, reported when it runs
    moving = sum(shot.num_frames for shot in board.shots if shot.kind is ShotKind.MOTION)
    frames = 1 + sum(shot.num_frames - 1 for shot in board.shots)
    return _Size(
        units={"prompts": 1, "keyframes": 1, "motion": len(board.shots), "films": 1},
        items={"prompts": 1, "keyframes": len(board.panels), "motion": moving, "films": frames},
    )


class _Counts:
    """Totals over a job, of what was counted in some of its stories."""

    def __init__(self, sizes: Sequence[_Size], num_stories: int) -> None:
        self._sizes = sizes
        self._num_stories = num_stories

    def total(self, count: Callable[[_Size], int]) -> Estimate:
        """The sum over all stories; exact if every one was counted."""
        counted = [count(size) for size in self._sizes]
        value = self._num_stories * fmean(counted)
        seen = len(counted) / max(1, self._num_stories)
        if seen >= 1 or len(counted) < 2:
            return Estimate(value=value, low=value, high=value)
        error = self._num_stories * math.sqrt(variance(counted) / len(counted) * (1 - seen))
        margin = student_quantile(len(counted) - 1) * error
        return Estimate(value=value, low=max(0.0, value - margin), high=value + margin)


def _plan_stage(stage: str, counts: _Counts, rate: StageRate) -> StagePlan:
    units = counts.total(lambda size: size.units[stage])
    items = counts.total(lambda size: size.items[stage])
    # Where no motion was rendered, a unit of it is as good as any other.
    measured = items.scaled(1 / rate.items_per_unit) if rate.items_per_unit else units
    return StagePlan(
        stage=stage,
        units=units,
        items=items,
        actor_hours=_widened(measured.scaled(rate.mean_s / 3600), units, rate),
        gigabytes=measured.scaled(rate.bytes_per_unit / 1e9),
    )


def _widened(hours: Estimate, units: Estimate, rate: StageRate) -> Estimate:
    """Add what is not known of the rate: its own error, and the chance in the units to come."""
    if not hours.value:
        return hours
    spread = rate.variance_s2 / rate.mean_s**2
    relative = math.sqrt(spread / rate.num_units + spread / max(1.0, units.value))
    margin = student_quantile(rate.num_units - 1) * relative * hours.value
    return Estimate(
        value=hours.value,
        low=max(0.0, hours.value - math.hypot(margin, hours.value - hours.low)),
        high=hours.value + math.hypot(margin, hours.high - hours.value),
    )


def _sum(estimates: Iterable[Estimate]) -> Estimate:
    """The sum of figures whose errors have nothing to do with each other."""
    terms = list(estimates)
    value = sum(term.value for term in terms)
    return Estimate(
        value=value,
        low=max(0.0, value - math.hypot(*(term.value - term.low for term in terms))),
        high=value + math.hypot(*(term.high - term.value for term in terms)),
    )


def _hours(stages: tuple[StagePlan, ...], config: RenderConfig) -> Estimate:
    """The time that the slower of the pools needs, on all of its actors."""
    pools = {
        name: _sum(s.actor_hours for s in stages if POOL_OF_STAGE[s.stage] == name).scaled(
            1 / getattr(config.pools, name).num_actors
        )
        for name in set(POOL_OF_STAGE.values())
    }
    return max(pools.values(), key=lambda hours: hours.value)


def _nights(hours: Estimate, config: RenderConfig, rates: dict[str, StageRate]) -> Estimate | None:
    if config.execution.window is None:
        return None
    window = Window.parse(config.execution.window)
    longest_s = max(rate.longest_s for rate in rates.values())
    if longest_s > window.length_s:
        raise ValueError(
            f"window {window}: is {window.length_s / 60:.0f} min long, and a unit takes up to"
            f" {longest_s / 60:.1f} min; nothing could start in it"
        )
    # Towards the end of a night an actor has, on average, half a unit's time left over.
    usable = (window.length_s - longest_s / 2) / 3600
    return Estimate(
        value=math.ceil(hours.value / usable),
        low=math.ceil(hours.low / usable),
        high=math.ceil(hours.high / usable),
    )


def student_quantile(degrees: int) -> float:
    """How many standard errors the bounds are away, for so many degrees of freedom.

    Source: the expansion of Student's quantile around the normal one, Abramowitz & Stegun 26.7.5.
    """
    x = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
    )
    return x + sum(term / float(degrees) ** power for power, term in enumerate(terms, start=1))
