"""Renders a sample of a job first, and the rest after a person has approved it.

The sample is shard 0 of the same job, so nothing is rendered twice.
"""

from collections.abc import Sequence
from itertools import islice

from storyreel.flows.job.config import RenderConfig
from storyreel.flows.job.control import (
    Approval,
    Cancel,
    ControlRecord,
    read_control,
    update_control,
)
from storyreel.flows.job.job import Job
from storyreel.flows.job.window import Window
from storyreel.flows.plans.plan import (
    MAX_STORIES,
    JobPlan,
    check_space,
    make_plan,
    missing_rates,
    write_plan,
)
from storyreel.flows.plans.rates import StageRate, read_rates
from storyreel.flows.plans.splitting import rule_splitter
from storyreel.stages.errors import InputError
from storyreel.stages.output.manifests import STORIES, Shard, manifest_path, read_manifest
from storyreel.stages.output.records import Story
from storyreel.stages.output.storage import Output


def start(job: Job, sample_size: int = 0) -> ControlRecord:
    """Prepare the control record of a job that is started now by a person.

    An earlier cancellation is withdrawn. A job with a sample will wait for approval after it.

    Raises:
        ValueError: the job was laid out with a sample of another size, or without one.
    """
    if sample_size and job.sample_size != min(sample_size, job.num_stories):
        raise InputError(
            f"output {job.output.url}: its job was laid out with a sample of {job.sample_size}"
            f" stories, not {sample_size}; a job has its sample from the start"
        )
    asked = read_control(job.output).approval is not Approval.NOT_NEEDED
    if job.sample_size and not asked:
        return update_control(job.output, cancel=Cancel.NO, approval=Approval.WAITING)
    return update_control(job.output, cancel=Cancel.NO)


def decide(output: Output, *, approved: bool) -> ControlRecord:
    """Approve or reject the rest of a job after its sample; the decision may be changed later.

    Raises:
        ValueError: there is no job at `output`, or it has no sample.
    """
    if read_control(output).approval is Approval.NOT_NEEDED:
        raise InputError(f"output {output.url}: no job there has a sample to approve")
    return update_control(output, approval=Approval.APPROVED if approved else Approval.REJECTED)


def shards_due(job: Job, control: ControlRecord) -> list[Shard]:
    """Return the unfinished shards that may be rendered: only the sample until it is approved."""
    unfinished = job.unfinished()
    if control.approval is Approval.WAITING:
        return [shard for shard in unfinished if shard.index == 0]
    return [] if control.approval is Approval.REJECTED else unfinished


def as_planned(config: RenderConfig, window: Window | None) -> RenderConfig:
    """Return the configuration to plan with: that of the job, with the window that applies now."""
    execution = config.execution.model_copy(update={"window": window and str(window)})
    return config.model_copy(update={"execution": execution})


def plan_job(job: Job, config: RenderConfig, rates: dict[str, StageRate]) -> JobPlan:
    """Plan a job that is laid out, and store the plan at its output.

    Raises:
        ValueError: its sample has too few units, or the job fits neither the window nor the disk.
    """
    split = rule_splitter(config, job.stages)
    plan = make_plan(_stories_of(job), job.num_stories, split, config, rates, job.stages)
    write_plan(job.output, plan)
    check_space(plan, job.output)
    return plan


def why_no_plan(job: Job) -> str:
    """Explain why there is no plan of a job whose sample is rendered."""
    missing = (
        missing_rates(read_rates(job.output), job.stages)
        or "the run after the sample could not make it"
    )
    return f"there is no plan: {missing}"


def _stories_of(job: Job) -> Sequence[Story]:
    """Return evenly spread stories of a job, about as many of every shard."""
    per_shard = -(-MAX_STORIES // job.num_shards)
    chosen: list[Story] = []
    for shard in job.shards:
        stories = read_manifest(job.output, manifest_path(STORIES, shard), Story)
        step = max(1, len(stories) // per_shard)
        chosen += islice(stories, 0, None, step)
    return chosen
