"""A sample first: some stories are rendered, a person looks at them and at the plan, then the rest.

What was rendered for the sample is kept: it is shard 0 of the same job.
"""

import sys
from collections.abc import Sequence
from itertools import islice

from rich.console import Console
from rich.prompt import Confirm
from rich.table import Table

from storyreel.flows.job.config import RenderConfig
from storyreel.flows.job.control import Approval, Cancel, Control, read_control, update_control
from storyreel.flows.job.job import Job
from storyreel.flows.job.window import Window
from storyreel.flows.plans.plan import (
    MAX_STORIES,
    Estimate,
    Plan,
    Split,
    check_space,
    make_plan,
    read_plan,
    what_rates_lack,
    write_plan,
)
from storyreel.flows.plans.rates import StageRate, read_rates
from storyreel.flows.views.progress import duration
from storyreel.stages.output.manifests import STORIES, Shard, manifest_path, read_manifest
from storyreel.stages.output.records import Story
from storyreel.stages.output.storage import Output


def start(job: Job, sample_size: int = 0) -> Control:
    """Let a job run that somebody starts now: it waits after its sample, if it is to have one.

    A cancellation that stands there from before is taken back.

    Raises:
        ValueError: the job was laid out without a sample, or with one of another size.
    """
    if sample_size and job.sample_size != min(sample_size, job.num_stories):
        raise ValueError(
            f"output {job.output.url}: its job was laid out with a sample of {job.sample_size}"
            f" stories, not {sample_size}; a job has its sample from the start"
        )
    asked = read_control(job.output).approval is not Approval.NOT_NEEDED
    if job.sample_size and not asked:
        return update_control(job.output, cancel=Cancel.NO, approval=Approval.WAITING)
    return update_control(job.output, cancel=Cancel.NO)


def decide(output: Output, *, approved: bool) -> Control:
    """Say whether the rest of a job is to be rendered after its sample; may be said anew.

    Raises:
        ValueError: there is no job at `output`, or it has no sample.
    """
    if read_control(output).approval is Approval.NOT_NEEDED:
        raise ValueError(f"output {output.url}: no job there has a sample to approve")
    return update_control(output, approval=Approval.APPROVED if approved else Approval.REJECTED)


def shards_due(job: Job, control: Control) -> list[Shard]:
    """The unfinished shards that may be rendered now: only the sample before it is approved."""
    unfinished = job.unfinished()
    if control.approval is Approval.WAITING:
        return [shard for shard in unfinished if shard.index == 0]
    return [] if control.approval is Approval.REJECTED else unfinished


def as_planned(config: RenderConfig, window: Window | None) -> RenderConfig:
    """The configuration to plan with, in the window that holds for the job.

    It splits stories into as many panels, without asking a chat model.
    """
    prompts = config.prompts.model_copy(update={"chat": None})
    execution = config.execution.model_copy(update={"window": window and str(window)})
    return config.model_copy(update={"prompts": prompts, "execution": execution})


def plan_job(job: Job, config: RenderConfig, split: Split, rates: dict[str, StageRate]) -> Plan:
    """Plan a job that is laid out, and keep the plan at its output.

    Raises:
        ValueError: its sample has too few units, or the job cannot fit.
    """
    plan = make_plan(_stories_of(job), job.num_stories, split, config, rates)
    write_plan(job.output, plan)
    check_space(plan, job.output)
    return plan


def decide_at_terminal(job: Job, console: Console) -> bool:
    """Show the plan of a job whose sample waits, and ask whoever is there; whether to go on."""
    control = read_control(job.output)
    if control.approval is not Approval.WAITING or shards_due(job, control):
        return False
    if plan := read_plan(job.output):
        show_plan(plan, console)
    else:
        console.print(why_no_plan(job), highlight=False)
    sheets = job.output.location("films")
    told = f"The sample's films and contact sheets are in {sheets}"
    console.print(told, markup=False, highlight=False, soft_wrap=True)
    if not (sys.stdin.isatty() and console.is_terminal):
        console.print(
            f"`storyreel approve {job.output.url}` lets the next run go on, `reject` ends the job",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        return False
    approved = Confirm.ask("Render the rest?", console=console)
    decide(job.output, approved=approved)
    return approved


def why_no_plan(job: Job) -> str:
    """Says why there is no plan of a job whose sample is rendered."""
    lack = what_rates_lack(read_rates(job.output)) or "the run after the sample could not make it"
    return f"there is no plan: {lack}"


def _stories_of(job: Job) -> Sequence[Story]:
    """Stories that stand for all of a job: as many of every shard."""
    per_shard = -(-MAX_STORIES // job.num_shards)
    chosen: list[Story] = []
    for shard in job.shards:
        stories = read_manifest(job.output, manifest_path(STORIES, shard), Story)
        step = max(1, len(stories) // per_shard)
        chosen += islice(stories, 0, None, step)
    return chosen


def show_plan(plan: Plan, console: Console) -> None:
    """Print what a job takes."""
    table = Table("stage", "units", "actor-hours", "GB", title="plan (interval: 90 %)")
    for stage in plan.stages:
        table.add_row(
            stage.stage, _text(stage.units, 0), _text(stage.actor_hours), _text(stage.gigabytes)
        )
    console.print(table)
    nights = f", {_text(plan.nights, 0)} nights" if plan.nights else ""
    console.print(
        f"{plan.stories} stories, {_text(plan.shots, 0)} shots, {_text(plan.frames, 0)} frames:"
        f" {_text(plan.film_hours)} h of film in {_times(plan.hours)}{nights},"
        f" {_text(plan.gigabytes)} GB, on {', '.join(plan.hardware) or 'unknown hardware'}",
        highlight=False,
    )


def _text(estimate: Estimate, digits: int | None = None) -> str:
    def number(value: float) -> str:
        return f"{value:.3g}" if digits is None else f"{value:.{digits}f}"

    if number(estimate.low) == number(estimate.high):
        return number(estimate.value)
    return f"{number(estimate.value)} ({number(estimate.low)}-{number(estimate.high)})"


def _times(hours: Estimate) -> str:
    low, high = duration(3600 * hours.low), duration(3600 * hours.high)
    middle = duration(3600 * hours.value)
    return middle if low == high else f"{middle} ({low} to {high})"
