"""The render flow: the shards of a job through their stages, on pools of Ray actors.

Which units are done is read from the records and manifests at the output, never from Prefect, so
that the flow can be started again at any time and renders what is left. While it runs it follows
the job's control record and render window.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import httpx
from prefect import Flow, flow, get_run_logger, tags
from prefect.client.schemas.objects import State
from prefect.context import TagsContext
from prefect.futures import PrefectConcurrentFuture, PrefectFuture, as_completed
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed
from prefect.task_runners import ThreadPoolTaskRunner
from rich.console import Console

from storyreel.cluster.places import Places
from storyreel.cluster.pool import Pool
from storyreel.cluster.ray_runtime import connected
from storyreel.flows.job.config import RenderConfig
from storyreel.flows.job.control import Approval, read_control
from storyreel.flows.job.environments import Environments
from storyreel.flows.job.generations import complete_opening
from storyreel.flows.job.job import Job, read_job
from storyreel.flows.job.lock import held
from storyreel.flows.job.retention import remove_finished_intermediates
from storyreel.flows.job.status import Census, count_units, counted_status, write_status
from storyreel.flows.plans.plan import missing_rates, read_plan
from storyreel.flows.plans.rates import Meters, read_rates, write_rates
from storyreel.flows.plans.sample import as_planned, plan_job, shards_due
from storyreel.flows.run.controller import ENDING, Clock, Controller, Phase, utc_now
from storyreel.flows.run.crashed import (
    mark_crashed_runs,
    mark_lost_runs,
    own_flow_run,
    process_tags,
)
from storyreel.flows.run.job_run import CARRIED_OVER, JobRun, render_shard_stage
from storyreel.flows.run.metrics import Metrics, served
from storyreel.flows.run.monitor import Monitor, OpenUnits, Watched
from storyreel.flows.run.prefect_server import prefect_api
from storyreel.flows.run.run_log import warnings_in
from storyreel.flows.run.tally import Tally
from storyreel.flows.run.task_runs import TaskRuns
from storyreel.flows.views.artifacts import shown
from storyreel.flows.views.progress import StageProgress
from storyreel.flows.views.summary import summarize
from storyreel.stages.errors import InputError
from storyreel.stages.output.manifests import Shard
from storyreel.stages.output.patience import patient, wait_at_most
from storyreel.stages.output.storage import Output

logger = logging.getLogger(__name__)

WAITS_FOR_APPROVAL = "WaitsForApproval"
"""Name of the state of runs that ended after the sample of their job."""


def run_render(job: Job, config: RenderConfig, clock: Clock = utc_now) -> State[Any]:
    """Render what is missing of a job, as a flow run in this process; returns its final state.

    The Prefect server is a view: if it is lost meanwhile, the job is rendered all the same.

    Args:
        job: the job, with the stages that it goes through.
        config: the configuration it was laid out with.
        clock: the time that the render window is compared with.

    Raises:
        Exception: the error that ended the run, if it failed.
    """
    outcome: Future[State[Any]] = Future()
    render = _flow(job, config, partial(_render_output, job, config, clock), outcome)
    with prefect_api(), tags(*process_tags()):
        # A killed process cannot report its own end; its run would stay Running for ever.
        mark_crashed_runs()
        name = f"{job.name} {datetime.now().astimezone():%Y-%m-%d}"
        try:
            render(name, job.output.url, config, return_state=True)
        except httpx.HTTPError as error:
            if not outcome.done():
                raise
            logger.warning("the Prefect server does not show the end of this run: %s", error)
    return outcome.result()


def _flow(
    job: Job,
    config: RenderConfig,
    render_output: Callable[[], State[Any]],
    outcome: Future[State[Any]],
) -> Flow[..., State[Any]]:
    """Return the flow of a run, which puts its state or its error into `outcome`.

    Prefect itself returns neither if its server is gone at the end.
    """
    # A task waits in its thread for its units, and for the task of the stage before it.
    num_threads = config.num_open_shards(job.num_stories) * len(job.stages)
    threads: Any = ThreadPoolTaskRunner(max_workers=num_threads)

    @flow(name="render", flow_run_name="{job_name}", task_runner=threads)
    def render(job_name: str, output_url: str, config: RenderConfig) -> State[Any]:  # noqa: ARG001
        """Render what is missing of the job that is laid out at an output.

        Args:
            job_name: Name of the run in the Prefect UI.
            output_url: Where the job is laid out.
            config: The configuration it was laid out with.
        """
        try:
            outcome.set_result(render_output())
        except Exception as error:
            outcome.set_exception(error)
        return outcome.result()

    return render


def _render_output(job: Job, config: RenderConfig, clock: Clock) -> State[Any]:
    holder = f"flow run {flow_run.name} {flow_run.id}"
    wait_at_most(config.storage.patience_s)
    with warnings_in(get_run_logger()), held(Output(job.output.url), holder) as output:
        mark_lost_runs(output.url)
        # A retry that was killed between its two writes is completed before anything is read.
        complete_opening(output)
        mine = read_job(output, job.stages)
        _check_same(mine, job)
        if config.retention.keep == "films":
            remove_finished_intermediates(mine)
        task_runs = TaskRuns()
        with own_flow_run(), shown(mine, config, UUID(flow_run.id), task_runs):
            census = count_units(mine)
            write_status(mine.output, counted_status(mine, census, flow_run.name))
            return _render(_watched(mine, config, clock, census, task_runs))


def _check_same(mine: Job, job: Job) -> None:
    if mine.fingerprint != job.fingerprint:
        raise InputError(
            f"output {mine.output.url}: contains another job now, with fingerprint"
            f" {mine.fingerprint[:8]} instead of {job.fingerprint[:8]}: another command has"
            " discarded the one that was to be rendered"
        )
    if mine.revision != job.revision:
        raise InputError(
            f"output {mine.output.url}: its job was edited by another command meanwhile; run"
            " `storyreel continue` to render it as it is now"
        )


def _watched(
    job: Job, config: RenderConfig, clock: Clock, census: Census, task_runs: TaskRuns
) -> Watched:
    meters = Meters(read_rates(job.output), job.stages)
    length = partial(meters.quantile, share=config.execution.drain_quantile)
    controller = Controller(config.execution.window, length, clock)
    controller.follow(read_control(job.output))
    return Watched(
        job=job,
        config=config,
        holder=flow_run.name,
        controller=controller,
        meters=meters,
        environments=Environments(job.output, mixed=config.execution.mixed_environments),
        tally=Tally(census, meters),
        metrics=Metrics(job),
        open_units=OpenUnits(),
        task_runs=task_runs,
    )


def _render(watched: Watched) -> State[Any]:
    job = watched.job
    shards = shards_due(job, watched.controller.control)
    phase: Phase | None = watched.controller.phase()
    if phase not in ENDING:
        phase = _run(watched, shards) if shards else None
    write_status(job.output, counted_status(job, count_units(job)))
    _plan_after_sample(watched)
    return _end_state(watched, phase)


def _run(watched: Watched, shards: list[Shard]) -> Phase | None:
    """Render shards; return why the run ended before they were finished, `None` if it did not."""
    with ExitStack() as stack:
        stack.enter_context(connected(watched.config.cluster))
        pools = stack.enter_context(_pools(watched))
        progress = stack.enter_context(
            StageProgress(watched.job.stages.names, Console(stderr=True))
        )
        watched.metrics.watch(pools)
        stack.enter_context(served(watched.metrics, watched.config.metrics))
        listeners = [lambda status: progress.show(status.stages), watched.metrics.show]
        monitor = stack.enter_context(Monitor(watched, pools, listeners))
        limit = watched.config.num_open_shards(watched.job.num_stories)
        _render_shards(JobRun(watched, pools, progress), shards, limit)
        for pool in pools.values():
            pool.close()  # units in flight are finished, and may still be cancelled
        progress.show(watched.tally.stages())
        # The monitor may not have looked since the last units were measured.
        write_rates(watched.job.output, watched.meters.rates())
    return monitor.ended_by


def _render_shards(run: JobRun, shards: list[Shard], limit: int) -> None:
    """Submit the shards' tasks, the oldest first, `limit` shards at a time.

    The limit keeps the Prefect server's event queue short: it drops events in bursts.
    """
    open_now: dict[PrefectFuture[Any], list[PrefectConcurrentFuture[Any]]] = {}
    for shard in shards:
        if len(open_now) == limit:
            # Any shard, not the oldest: a slow story must not keep the next shard from opening.
            _finish(open_now.pop(next(as_completed(list(open_now)))))
        if run.is_ending:
            break
        task_runs = _submit_stages(run, shard)
        open_now[task_runs[-1]] = task_runs
    for task_runs in open_now.values():
        _finish(task_runs)


def _finish(task_runs: list[PrefectConcurrentFuture[Any]]) -> None:
    """Wait for a shard's tasks; raise the error of the first one that failed.

    The tasks after it never start, so their own errors would only hide the cause.
    """
    for task_run in task_runs:
        task_run.result()


def _submit_stages(run: JobRun, shard: Shard) -> list[PrefectConcurrentFuture[Any]]:
    task_runs: list[PrefectConcurrentFuture[Any]] = []
    for stage_name in run.stage_names:
        named: Any = render_shard_stage.with_options(name=f"{stage_name} {shard}")
        # Without the flow run's tags: Prefect asks its server for a slot of each tag of a task run,
        # and the task would wait for a server that is gone.
        with TagsContext(current_tags=set()):
            task_runs.append(named.submit(run, shard, stage_name, wait_for=task_runs[-1:]))
        run.submitted(named, task_runs[-1])
    return task_runs


@contextmanager
def _pools(watched: Watched) -> Iterator[Mapping[str, Pool]]:
    """Start the pools that the job's stages name; they and their actors stop with the context."""
    with ExitStack() as stack:
        names = dict.fromkeys(spec.pool for spec in watched.job.stages)
        places = Places()
        yield {name: stack.enter_context(_pool(watched, name, places)) for name in names}


def _pool(watched: Watched, name: str, places: Places) -> Pool:
    job, config = watched.job, watched.config
    patience_s = config.storage.patience_s
    return Pool(
        name=name,
        stages={
            spec.name: partial(patient, spec.factory(job.output.url, config), patience_s)
            for spec in job.stages.in_pool(name)
        },
        output=job.output,
        config=getattr(config.pools, name),
        num_threads=config.num_threads,
        places=places,
        admit=watched.controller.admit,
        measured=watched.took,
        joined=partial(watched.environments.join, name),
    )


def _plan_after_sample(watched: Watched) -> None:
    """Once the sample is rendered, plan the job from what it took, if that is enough.

    Only the rules split stories here, which need a tokenizer: this process loads no chat model.
    """
    job, rates = watched.job, watched.meters.rates()
    control = watched.controller.control
    sampled = control.approval is Approval.WAITING and not shards_due(job, control)
    if sampled and read_plan(job.output) is None and not missing_rates(rates, job.stages):
        plan_job(job, as_planned(watched.config, watched.controller.window), rates)


def _end_state(watched: Watched, phase: Phase | None) -> State[Any]:
    """The final state of the run in the Prefect UI."""
    job, control = watched.job, read_control(watched.job.output)
    summary = str(summarize(job))
    left = sum(job.size_of(shard) for shard in job.unfinished())
    if not left:
        return Completed(message=summary)
    if phase in (Phase.CANCELLED, Phase.CANCELLED_NOW):
        return Cancelled(message=f"{summary}; cancelled with {left} stories left")
    if control.approval is Approval.REJECTED:
        return Cancelled(message=f"{summary}; the sample was rejected, {left} stories left")
    if control.approval is Approval.WAITING:
        return Completed(
            name=WAITS_FOR_APPROVAL, message=f"{summary}; the sample waits for approval"
        )
    opening = watched.controller.opening()
    opens = f"; the window opens {opening.start:%Y-%m-%d %H:%M} UTC" if opening else ""
    return Completed(name=CARRIED_OVER, message=f"{summary}; {left} stories carried over{opens}")
