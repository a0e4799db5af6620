"""The render flow: the shards of a job through their stages, on pools of Ray actors.

Records and manifests at the output are the only truth about what is done; the flow looks there
first and renders the rest, so it can be started again at any time. While it runs it follows the
job's control record and its window.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import partial
from typing import Any, TypeAlias
from uuid import UUID

from prefect import Flow, Task, flow, get_run_logger, tags, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectConcurrentFuture, PrefectFuture, as_completed
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed
from prefect.task_runners import ThreadPoolTaskRunner
from rich.console import Console

from storyreel.cluster.pool import Pool
from storyreel.cluster.ray_runtime import connected
from storyreel.cluster.work import Work
from storyreel.cluster.worker import StageFactory
from storyreel.flows.job.config import RenderConfig
from storyreel.flows.job.control import Approval, read_control
from storyreel.flows.job.generations import complete_opening
from storyreel.flows.job.job import Job, read_job
from storyreel.flows.job.lock import held
from storyreel.flows.job.retention import remove_finished_intermediates, remove_intermediates
from storyreel.flows.job.status import count_units, counted_status, write_status
from storyreel.flows.plans.plan import read_plan, what_rates_lack
from storyreel.flows.plans.rates import Meters, read_rates, write_rates
from storyreel.flows.plans.sample import as_planned, plan_job, shards_due
from storyreel.flows.run.controller import ENDING, Clock, Controller, Phase, utc_now
from storyreel.flows.run.crashed import mark_crashed_runs, own_flow_run, process_tags
from storyreel.flows.run.monitor import Monitor, OpenUnits, Watched
from storyreel.flows.run.prefect_server import prefect_api
from storyreel.flows.run.shards import (
    POOL_OF_STAGE,
    STAGES,
    ShardPipeline,
    StageOfShard,
    Unit,
    render_stage,
)
from storyreel.flows.run.tally import Tally
from storyreel.flows.run.task_runs import TaskRuns
from storyreel.flows.views.artifacts import shown
from storyreel.flows.views.progress import StageProgress
from storyreel.flows.views.summary import summarize
from storyreel.stages.factories import make_films, make_keyframes, make_motion, make_prompts
from storyreel.stages.output.commits import read_commit
from storyreel.stages.output.manifests import Shard
from storyreel.stages.output.patience import patient, wait_at_most
from storyreel.stages.output.records import Failure
from storyreel.stages.output.storage import Output

StageFactories: TypeAlias = Callable[[Job, RenderConfig], Mapping[str, StageFactory]]
"""Makes what constructs each stage on a worker, by the stage's name."""

CARRIED_OVER = "CarriedOver"
"""Name of the state of runs that ended well and left something for the next run."""

WAITS_FOR_APPROVAL = "WaitsForApproval"
"""Name of the state of runs that ended well with the sample of their job."""


def stage_factories(job: Job, config: RenderConfig) -> dict[str, StageFactory]:
    """What each actor calls to build its stages: classes with their configuration."""
    url = job.output.url
    return {
        "prompts": partial(
            make_prompts,
            config=config.prompts,
            model=config.keyframes.model,
            num_frames=config.motion.num_frames,
            fps=config.films.fps,
        ),
        "keyframes": partial(make_keyframes, output_url=url, config=config.keyframes),
        "motion": partial(make_motion, output_url=url, config=config.motion),
        "films": partial(make_films, output_url=url, config=config.films),
    }


class JobRun:
    """One run of a job: its pools and what is counted while they work; task threads call it."""

    def __init__(
        self, watched: Watched, pools: Mapping[str, Pool], progress: StageProgress
    ) -> None:
        self._watched = watched
        self._pools = pools
        self._progress = progress

    @property
    def is_ending(self) -> bool:
        """Whether the run was told to end before its job is finished."""
        return self._watched.open_units.dropped

    def render_stage(self, shard: Shard, stage_name: str) -> bool:
        """Bring one stage of one shard to its seal, unless it is sealed already.

        Returns:
            Whether it is sealed; if not, the run was told to end first.
        """
        job = self._watched.job
        fps = self._watched.config.films.fps
        pipeline = ShardPipeline(job.output, shard, fingerprint=job.fingerprint, fps=fps)
        stage = pipeline.stage(stage_name)
        if stage.is_sealed(job.output):
            return True
        sealed = not self.is_ending and render_stage(stage, job.output, self)
        if sealed and stage_name == "films" and self._watched.config.retention.keep == "films":
            remove_intermediates(job.output, shard)
        return sealed

    def submitted(self, task: Task[..., Any], task_run: PrefectConcurrentFuture[Any]) -> None:
        """A stage of a shard was handed to Prefect."""
        self._watched.task_runs.add(task, task_run)

    def submit(self, work: Work, priority: tuple[int, ...]) -> Future[Any]:
        """Hand a unit to the pool of its stage, and wait for it with the run."""
        future = self._pools[POOL_OF_STAGE[work.unit.stage]].submit(work, priority=priority)
        self._watched.open_units.add(future)
        return future

    def opened(self, stage: StageOfShard, num_units: int) -> None:
        """A shard's stage was opened with that many units."""
        num_stories = self._watched.job.size_of(stage.shard)
        self._watched.tally.opened(stage, num_units, num_stories)
        get_run_logger().info("%s %s: %d units", stage.name, stage.shard, num_units)

    def ended(self, unit: Unit, result: Any) -> None:
        """A unit was ended by this run: with a tuple of records, or with a `Failure`."""
        stage = unit.id.stage
        self._watched.tally.ended(stage, result)
        self._progress.warn(result)
        if isinstance(result, Failure):
            why = f"{result.error_class}: {result.message}"
            attempts = f"given up after {result.attempts} attempts, the last on {result.worker}"
            get_run_logger().warning("%s: %s: %s", unit.id, attempts, why)
        if not isinstance(result, Failure) and not self._watched.meters.knows_hardware(stage):
            made = read_commit(self._watched.job.output, unit.id, type(result[0]))
            self._watched.meters.ran_on(stage, made.hardware)


@task(task_run_name="{stage_name} {shard}", cache_policy=NO_CACHE)
def render_shard_stage(run: JobRun, shard: Shard, stage_name: str) -> State[Any]:
    """One stage of one shard: what the Prefect UI shows as one task run."""
    if run.render_stage(shard, stage_name):
        return Completed(message="sealed")
    return Completed(name=CARRIED_OVER, message="the run ended first; the next one goes on here")


def render_flow(
    factories: StageFactories = stage_factories, clock: Clock = utc_now
) -> Flow[..., State[Any]]:
    """The flow that renders a job with these stages, its window by this clock."""

    @flow(name="render", flow_run_name="{job_name}")
    def render(
        job_name: str,  # noqa: ARG001, names the run
        output_url: str,
        config: RenderConfig,
    ) -> State[Any]:
        """Render what is missing of the job that is laid out at an output.

        Args:
            job_name: what the Prefect UI calls this run.
            output_url: where `open_job` laid the job out.
            config: the configuration the job was laid out with.
        """
        holder = f"flow run {flow_run.name} {flow_run.id}"
        wait_at_most(config.storage.patience_s)
        with held(Output(output_url), holder) as output:
            complete_opening(output)
            job = read_job(output)
            if config.retention.keep == "films":
                remove_finished_intermediates(job)
            task_runs = TaskRuns()
            with own_flow_run(), shown(job, config, UUID(flow_run.id), task_runs):
                return _render(_watched(job, config, clock, task_runs), factories)

    return render


render = render_flow()


def run_render(
    job: Job, config: RenderConfig, render: Flow[..., State[Any]] = render
) -> State[Any]:
    """Run the flow in this process on a job that is laid out; the state that it ends in.

    Raises:
        Exception: what ended the run, if it could not go on.
    """
    num_threads = config.num_open_shards(job.num_stories) * len(STAGES)
    threads: Any = ThreadPoolTaskRunner(max_workers=num_threads)
    with prefect_api(), tags(*process_tags()):
        mark_crashed_runs()
        started: Any = render.with_options(task_runner=threads)
        name = f"{job.name} {datetime.now().astimezone():%Y-%m-%d}"
        state: State[Any] = started(name, job.output.url, config, return_state=True)
    if state.is_failed() or state.is_crashed():
        state.result()  # raises what happened
    return state


def _watched(job: Job, config: RenderConfig, clock: Clock, task_runs: TaskRuns) -> Watched:
    meters = Meters(read_rates(job.output))
    length = partial(meters.quantile, share=config.execution.drain_quantile)
    controller = Controller(config.execution.window, length, clock)
    controller.follow(read_control(job.output))
    return Watched(
        job=job,
        config=config,
        holder=flow_run.name,
        controller=controller,
        meters=meters,
        tally=Tally(count_units(job), meters),
        open_units=OpenUnits(),
        task_runs=task_runs,
    )


def _render(watched: Watched, factories: StageFactories) -> State[Any]:
    job = watched.job
    write_status(job.output, counted_status(job, watched.holder))
    shards = shards_due(job, watched.controller.control)
    phase: Phase | None = watched.controller.phase()
    if phase not in ENDING:
        phase = _run(watched, factories(job, watched.config), shards) if shards else None
    write_status(job.output, counted_status(job))
    _plan_after_sample(watched, factories)
    return _end_state(watched, phase)


def _run(
    watched: Watched, factories: Mapping[str, StageFactory], shards: list[Shard]
) -> Phase | None:
    """Render shards; why the run ended before they were finished, if it did."""
    with ExitStack() as stack:
        stack.enter_context(connected(watched.config.cluster))
        pools = stack.enter_context(_pools(watched, factories))
        progress = stack.enter_context(StageProgress(Console(stderr=True)))
        listeners = [lambda status: progress.show(status.stages)]
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
            _finish(open_now.pop(next(as_completed(list(open_now)))))
        if run.is_ending:
            break
        task_runs = _submit_stages(run, shard)
        open_now[task_runs[-1]] = task_runs
    for task_runs in open_now.values():
        _finish(task_runs)


def _finish(task_runs: list[PrefectConcurrentFuture[Any]]) -> None:
    """Wait for a shard's tasks; the first that failed is the cause, those after it never start."""
    for task_run in task_runs:
        task_run.result()


def _submit_stages(run: JobRun, shard: Shard) -> list[PrefectConcurrentFuture[Any]]:
    task_runs: list[PrefectConcurrentFuture[Any]] = []
    for stage_name in STAGES:
        named: Any = render_shard_stage.with_options(name=f"{stage_name} {shard}")
        task_runs.append(named.submit(run, shard, stage_name, wait_for=task_runs[-1:]))
        run.submitted(named, task_runs[-1])
    return task_runs


@contextmanager
def _pools(watched: Watched, factories: Mapping[str, StageFactory]) -> Iterator[dict[str, Pool]]:
    """The pools, started; they stop with their actors when the run ends."""
    config = watched.config
    patience_s = config.storage.patience_s
    factories = {name: partial(patient, make, patience_s) for name, make in factories.items()}
    sizes = {"assembly": config.pools.assembly, "render": config.pools.render}
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(
                Pool(
                    name=name,
                    stages={s: make for s, make in factories.items() if POOL_OF_STAGE[s] == name},
                    output_url=watched.job.output.url,
                    config=size,
                    num_threads=config.num_threads,
                    admit=watched.controller.admit,
                    measured=watched.tally.took,
                )
            )
            for name, size in sizes.items()
        }


def _plan_after_sample(watched: Watched, factories: StageFactories) -> None:
    """Once the sample is rendered, plan the job from what it took, if that is enough."""
    job, rates = watched.job, watched.meters.rates()
    control = watched.controller.control
    sampled = control.approval is Approval.WAITING and not shards_due(job, control)
    if sampled and read_plan(job.output) is None and not what_rates_lack(rates):
        config = as_planned(watched.config, watched.controller.window)
        plan_job(job, config, factories(job, config)["prompts"](), rates)


def _end_state(watched: Watched, phase: Phase | None) -> State[Any]:
    """What the Prefect UI says of the run in the end."""
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
