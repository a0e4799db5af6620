"""Waiting in the Prefect UI for a person's answer to a sample; nothing is held meanwhile.

The flow run is suspended: its process ends, and resuming schedules it again. The answer goes into
the control record, from where a command's answer comes too.
"""

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateName,
)
from prefect.client.schemas.objects import FlowRun
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from pydantic import Field

from storyreel.flows.job.control import Approval, read_control
from storyreel.flows.job.description import JOB
from storyreel.flows.job.job import Job
from storyreel.flows.night.work_pool import JOB_FLOW
from storyreel.flows.plans.plan import read_plan
from storyreel.flows.plans.sample import decide, why_no_plan
from storyreel.flows.server.server_config import load_server_config
from storyreel.flows.views.plans import plan_markdown
from storyreel.stages.output.storage import Output

SUSPENDED = "Suspended"

_ANSWERS = {Approval.APPROVED, Approval.REJECTED}


class Answer(RunInput):
    """A person's answer to a sample."""

    approve: bool = Field(default=True, description="Render the rest, or stop here.")


def wait_for_approval(job: Job) -> None:
    """Suspend this flow run until somebody has looked at the sample; records the answer."""
    question = Answer.with_initial_data(description=_question(job))
    answer = suspend_flow_run(wait_for_input=question, key=f"sample-{job.fingerprint[:8]}")
    decide(job.output, approved=answer.approve)


def resume_answered(client: SyncPrefectClient) -> list[str]:
    """Resume the flow runs whose sample was approved or rejected by a command.

    Returns:
        What is wrong with the others, if anything: one that cannot be read holds up none.
    """
    suspended = client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=[JOB_FLOW])),
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(name=FlowRunFilterStateName(any_=[SUSPENDED]))
        ),
    )
    problems = []
    for run in suspended:
        try:
            _resume_if_answered(client, run)
        except Exception as error:  # every store has its own exceptions
            problems.append(f"{run.parameters['output_url']}: {error}")
    return problems


def _resume_if_answered(client: SyncPrefectClient, run: FlowRun) -> None:
    output = Output(run.parameters["output_url"])
    if output.exists(JOB) and (answer := read_control(output).approval) in _ANSWERS:
        approved = answer is Approval.APPROVED
        client.resume_flow_run(run.id, run_input={"approve": approved})


def _question(job: Job) -> str:
    lines = [f"The sample of **{job.name}** is rendered: {job.sample_size} stories."]
    if page := load_server_config().gallery_page(job.output.url):
        lines.append(f"[Look at its films and sheets]({page}).")
    if plan := read_plan(job.output):
        lines.append(plan_markdown(plan))
    else:
        lines.append(why_no_plan(job))
    return "\n\n".join(lines)
