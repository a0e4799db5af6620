"""A job's plan in the terminal and as markdown, and compared with what the job took."""

from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.table import Table

from storyreel.flows.plans.plan import Interval, JobPlan, StagePlan
from storyreel.flows.plans.rates import StageRate
from storyreel.flows.views.figures import (
    format_duration,
    format_hours,
    format_interval,
    format_size,
)


def show_plan(plan: JobPlan, console: Console) -> None:
    """Print the plan of a job."""
    table = Table("stage", "units", "one actor's time", "storage")
    for stage in plan.stages:
        table.add_row(stage.stage, *_figures(stage))
    console.print(table)
    console.print(f"90 % intervals: {_summary(plan)}", highlight=False)


def plan_markdown(plan: JobPlan) -> str:
    """The plan of a job as a markdown table."""
    lines = [
        f"**Plan** (90 % intervals): {_summary(plan)}.",
        "",
        "| stage | units | one actor's time | storage |",
        "|---|---:|---:|---:|",
        *(f"| {stage.stage} | {' | '.join(_figures(stage))} |" for stage in plan.stages),
    ]
    return "\n".join(lines)


def plan_against_actual(plan: JobPlan, rates: Mapping[str, StageRate]) -> str:
    """The planned time of the actors beside the measured time, as a markdown table."""
    lines = ["| stage | planned | measured so far |", "|---|---:|---:|"]
    for stage in plan.stages:
        actual = actor_time(rates.get(stage.stage))
        lines.append(f"| {stage.stage} | {format_hours(stage.actor_hours)} | {actual} |")
    return "\n".join(lines)


def actor_time(rate: StageRate | None) -> str:
    """The time that the units of a stage have taken on their actors."""
    hours = rate.num_units * rate.mean_s / 3600 if rate else 0.0
    return format_hours(Interval(value=hours, low=hours, high=hours))


def _figures(stage: StagePlan) -> Iterator[str]:
    yield format_interval(stage.units)
    yield format_hours(stage.actor_hours)
    yield format_size(stage.gigabytes)


def _summary(plan: JobPlan) -> str:
    nights = f" in {format_interval(plan.nights)} nights" if plan.nights else ""
    low, middle, high = (
        format_duration(3600 * x) for x in (plan.hours.low, plan.hours.value, plan.hours.high)
    )
    hours = middle if low == high else f"{middle} ({low} to {high})"
    return (
        f"{plan.stories} stories, {format_interval(plan.shots)} shots,"
        f" {format_interval(plan.frames)} frames: {format_hours(plan.film_hours)} of film,"
        f" {hours} on the cluster{nights}, {format_size(plan.gigabytes)},"
        f" on {', '.join(plan.hardware) or 'unknown hardware'}"
    )
