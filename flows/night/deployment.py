"""The deployments on the work pool: `job` renders what is submitted, `night` what is left over.

A submission's flow run lays the job out, which checks its input at once, renders a sample if asked
to, and then renders within the job's window. A night's flow run goes through all jobs that were
submitted and are not finished. Where jobs are is Prefect's to remember; what is left of them, their
priority, and whether they may run, is read from their outputs.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import httpx
from prefect import Flow, flow, get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectAlreadyExists
from prefect.runtime import flow_run
from prefect.states import Completed, Failed, Scheduled
from prefect.types.entrypoint import EntrypointType
from pydantic import Field

from storyreel.flows.job.config import RenderConfig, load_config
from storyreel.flows.job.control import (
    ALWAYS,
    DEFAULT_PRIORITY,
    Approval,
    Cancel,
    ControlRecord,
    read_control,
    update_control,
)
from storyreel.flows.job.description import JOB
from storyreel.flows.job.job import Job, open_job, read_config, read_job
from storyreel.flows.job.window import Window
from storyreel.flows.night.approval import wait_for_approval
from storyreel.flows.night.events import tell_job_ended, tell_window_ended
from storyreel.flows.night.work_pool import (
    DEPLOYMENT,
    JOB_FLOW,
    NIGHT_FLOW,
    POOL,
    queue_name,
    queue_names,
)
from storyreel.flows.plans.sample import shards_due, start
from storyreel.flows.run.crashed import STORYREEL, own_flow_run
from storyreel.flows.run.job_run import CARRIED_OVER
from storyreel.flows.run.render import WAITS_FOR_APPROVAL, run_render
from storyreel.flows.server.server_config import load_server_config
from storyreel.stages.output.storage import Output

PAGE = 200


def _job_run_name() -> str:
    """The job's output and the day, since a job may take several nights."""
    output = str(flow_run.parameters["output_url"]).rstrip("/").rsplit("/", 1)[-1]
    return f"{output} {datetime.now(UTC):%Y-%m-%d}"


def _night_run_name() -> str:
    zone = Window.parse(str(flow_run.parameters["window"])).zone
    return f"night {datetime.now(zone):%Y-%m-%d}"


@flow(name=JOB_FLOW, flow_run_name=_job_run_name)
def job(  # noqa: PLR0913, PLR0917, a form in the UI
    input_url: Annotated[str, Field(min_length=1)],
    output_url: Annotated[str, Field(min_length=1)],
    config_name: Annotated[str, Field(min_length=1)] = "pocket",
    profile: str | None = None,
    overrides: list[str] = [],  # noqa: B006, Prefect copies it
    limit: Annotated[int | None, Field(ge=1)] = None,
    sample: Annotated[int | None, Field(ge=1, le=100)] = None,
    priority: Annotated[int | None, Field(ge=1, le=9)] = None,
    window: str | None = None,
) -> State[Any]:
    """Render the stories of an input to films; the same job continues where it stopped.

    Args:
        input_url: Stories as JSONL, CSV, Parquet, YAML or text; a file, a folder or a URL that this
            machine can read.
        output_url: Folder or object-store URL of the job, below one of the server's outputs.
        config_name: pocket, sd15, sd21, sdxl, or a TOML file on this machine.
        profile: draft, fast, paper, official, or a TOML file to lay over the configuration.
        overrides: Single values, such as films.fps=12.
        limit: Only the first so many input rows.
        sample: Render so many stories first, show the plan of the rest, and wait for approval.
        priority: 9 goes first, 1 last; left out, the job keeps the one it has, at first 5.
        window: Hours in which the job may run, such as 22:00-06:00 Europe/Berlin; left out, the job
            keeps the one it has, at first that of its configuration.
    """
    output = Output(load_server_config().check_output(output_url))
    config = load_config(config_name, profile=profile, overrides=overrides)
    with own_flow_run():
        laid_out = open_job(output, input_url, config, limit=limit, sample_size=sample or 0)
        update_control(output, **_given(priority=priority, window=window))
        state = _render_or_ask(laid_out, config, start(laid_out, sample or 0))
        if state.name == CARRIED_OVER:
            _continue_at_opening(laid_out, config)
        return state


@flow(name=NIGHT_FLOW, flow_run_name=_night_run_name)
def night(window: str) -> State[Any]:
    """Render what is left of the submitted jobs, those of the highest priority first.

    Args:
        window: Hours in which jobs may run, such as 22:00-06:00 Europe/Berlin.
    """
    tried: dict[str, State[Any]] = {}
    with own_flow_run():
        while _is_open(window) and (entry := _next_job(tried)):
            tried[entry.job.output.url] = _try_to_render(entry, window)
    return _told(tried)


def _given(**wishes: Any) -> dict[str, Any]:
    """The settings that a submission states; the job keeps its earlier value of the others."""
    return {key: value for key, value in wishes.items() if value is not None}


def _render_or_ask(laid_out: Job, config: RenderConfig, control: ControlRecord) -> State[Any]:
    """Render a job, its sample first if it has one; a resumed run asks no second time."""
    if control.approval is not Approval.WAITING or shards_due(laid_out, control):
        state = _render(laid_out, config)
        if state.name != WAITS_FOR_APPROVAL:
            return state
    wait_for_approval(laid_out)
    return _render(laid_out, config)


def _continue_at_opening(laid_out: Job, config: RenderConfig) -> None:
    """Schedule a run of this deployment for when the job's window opens next.

    A night may render the job before; then that run has nothing to do.
    """
    stated = read_control(laid_out.output).window or config.execution.window
    if stated is None or stated == ALWAYS:
        return
    now, window = datetime.now(UTC), Window.parse(stated)
    opening = window.next_opening(now)
    if opening.start <= now:  # too little is left of this one
        opening = window.next_opening(opening.end)
    try:
        with get_client(sync_client=True) as client:
            _schedule_again(client, laid_out.output.url, opening.start)
    except httpx.HTTPError as error:
        get_run_logger().warning("cannot be continued by itself when its window opens: %s", error)


def _schedule_again(client: SyncPrefectClient, output_url: str, moment: datetime) -> None:
    this = client.read_flow_run(UUID(flow_run.id))
    if this.deployment_id is None:
        return
    client.create_flow_run_from_deployment(
        this.deployment_id,
        # Priority and window may be changed until then.
        parameters={**this.parameters, "priority": None, "window": None},
        state=Scheduled(scheduled_time=moment),
        work_queue_name=this.work_queue_name,
        idempotency_key=f"{output_url} {moment.isoformat()}",
    )


def _try_to_render(entry: "Waiting", window: str) -> State[Any]:
    """The state that a job's run ends with; what goes wrong with one job is no other's business."""
    try:
        update_control(entry.job.output, window=window)
        return _render(entry.job, entry.config)
    except Exception as error:
        return Failed(message=f"{entry.job.name}: {error}")


def _render(laid_out: Job, config: RenderConfig) -> State[Any]:
    """Render what may be rendered now; the run's state, told to automations too."""
    try:
        state = run_render(laid_out, config)
    except Exception as error:
        tell_job_ended(laid_out, error)
        raise
    if state.name == CARRIED_OVER:
        tell_window_ended(laid_out)
    elif state.is_completed() and not laid_out.unfinished():
        tell_job_ended(laid_out)
    # A new one: Prefect would sum up a state of another run in words of its own.
    return State(type=state.type, name=state.name, message=f"{laid_out.name}: {state.message}")


def _is_open(window: str) -> bool:
    return window == ALWAYS or Window.parse(window).opening_at(datetime.now(UTC)) is not None


def _told(tried: dict[str, State[Any]]) -> State[Any]:
    messages = [str(state.message) for state in tried.values()] or ["nothing to do"]
    failed = any(state.is_failed() for state in tried.values())
    return (Failed if failed else Completed)(message="\n".join(messages))


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A submitted job that has work left and may continue."""

    job: Job
    config: RenderConfig
    control: ControlRecord


def _next_job(tried: dict[str, State[Any]]) -> Waiting | None:
    """The job of the highest priority, of equals the one that was submitted first.

    A submission that cannot be read has been tried with that, and stops no other one.
    """
    waiting: list[Waiting] = []
    for url in dict.fromkeys(_submitted_outputs()):
        if url not in tried:
            try:
                waiting.extend(_waiting(url))
            except Exception as error:
                tried[url] = Failed(message=f"{url}: {error}")
    return max(waiting, key=lambda entry: entry.control.priority, default=None)


def _waiting(url: str) -> Iterator[Waiting]:
    """The job at an output, if it waits."""
    output = Output(url)
    if not output.exists(JOB):
        return  # its input was refused
    control = read_control(output)
    held_back = control.paused or control.cancel is not Cancel.NO
    approved = control.approval in {Approval.NOT_NEEDED, Approval.APPROVED}
    laid_out = read_job(output)
    if approved and not held_back and laid_out.unfinished():
        yield Waiting(job=laid_out, config=read_config(output), control=control)


def _submitted_outputs() -> Iterator[str]:
    """The outputs of all submissions, the oldest first."""
    of_jobs = FlowFilter(name=FlowFilterName(any_=[JOB_FLOW]))
    seen = 0
    with get_client(sync_client=True) as client:
        while True:
            runs: list[FlowRun] = client.read_flow_runs(
                flow_filter=of_jobs,
                sort=FlowRunSort.EXPECTED_START_TIME_ASC,
                limit=PAGE,
                offset=seen,
            )
            yield from (run.parameters["output_url"] for run in runs)
            seen += len(runs)
            if len(runs) < PAGE:
                return


def deploy(client: SyncPrefectClient) -> None:
    """Make the work pool, its queues and the deployment of jobs, or leave what is there."""
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process", concurrency_limit=1))
    there = {queue.name for queue in client.read_work_queues(work_pool_name=POOL)}
    for rank, name in enumerate(queue_names(), start=1):
        if name not in there:
            client.create_work_queue(name, work_pool_name=POOL, priority=rank)
    apply_deployment(
        job,
        description="Submit stories; `storyreel submit` does the same.",
        work_queue_name=queue_name(DEFAULT_PRIORITY),
    )


def apply_deployment(deployed: Flow[..., Any], **options: Any) -> UUID:
    """Make or change a flow's deployment on our work pool; its id."""
    deployment: Any = deployed.to_deployment(
        DEPLOYMENT,
        tags=[STORYREEL],
        work_pool_name=POOL,
        entrypoint_type=EntrypointType.MODULE_PATH,
        **options,
    )
    deployment_id: UUID = deployment.apply()
    return deployment_id
