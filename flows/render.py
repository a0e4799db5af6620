"""The render flow: the shards of a job through their stages, on pools of Ray actors.

Records and manifests at the output are the only truth about what is done; the flow looks there
first and renders the rest, so it can be started again at any time.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from prefect import flow, tags, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectConcurrentFuture
from prefect.states import Completed
from prefect.task_runners import ThreadPoolTaskRunner
from rich.console import Console

from cluster.pool import Pool
from cluster.ray_runtime import connected
from flows.config import RenderConfig
from flows.crashed import mark_crashed_runs, process_tags
from flows.job import Job, read_job
from flows.prefect_server import prefect_api
from flows.progress import StageProgress
from flows.report import summarize
from flows.shards import STAGES, ShardPipeline, render_stage
from stages.films.stage import FilmsStage
from stages.keyframes.stage import KeyframesStage
from stages.manifests import Shard
from stages.motion.stage import MotionStage
from stages.prompts.stage import PromptsStage
from stages.storage import Output

POOL_OF_STAGE = {
    "prompts": "assembly",
    "keyframes": "render",
    "motion": "render",
    "films": "assembly",
}


class JobRun:
    """One run of a job: the pools that work on it and the progress they report."""

    def __init__(
        self, job: Job, config: RenderConfig, pools: Mapping[str, Pool], progress: StageProgress
    ) -> None:
        self._job = job
        self._fps = config.films.fps
        self._pools = pools
        self._progress = progress

    def render_stage(self, shard: Shard, stage_name: str) -> None:
        """Bring one stage of one shard to its seal, unless it is sealed already."""
        pipeline = ShardPipeline(
            self._job.output, shard, fingerprint=self._job.fingerprint, fps=self._fps
        )
        stage = pipeline.stage(stage_name)
        if not stage.is_sealed(self._job.output):
            pool = self._pools[POOL_OF_STAGE[stage_name]]
            render_stage(stage, self._job.output, pool, self._progress)


@task(task_run_name="{stage_name} {shard}", cache_policy=NO_CACHE)
def render_shard_stage(run: JobRun, shard: Shard, stage_name: str) -> None:
    """One stage of one shard: what the Prefect UI shows as one task run."""
    run.render_stage(shard, stage_name)


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
    job = read_job(Output(output_url))
    shards = job.unfinished()
    with ExitStack() as stack:
        stack.enter_context(connected(config.cluster))
        pools = stack.enter_context(_pools(job, config))
        num_stories = sum(job.size_of(shard) for shard in shards)
        progress = stack.enter_context(StageProgress(num_stories, Console(stderr=True)))
        _render_shards(JobRun(job, config, pools, progress), shards, config.execution.open_shards)
    return Completed(message=str(summarize(job)))


def run_render(job: Job, config: RenderConfig) -> None:
    """Run the flow in this process on a job that is laid out."""
    num_threads = config.execution.open_shards * len(STAGES)
    threads: Any = ThreadPoolTaskRunner(max_workers=num_threads)
    with prefect_api(), tags(*process_tags()):
        mark_crashed_runs()
        render.with_options(task_runner=threads)(job.name, job.output.url, config)


def _render_shards(run: JobRun, shards: list[Shard], open_shards: int) -> None:
    """Submit the shards' tasks, the oldest first, a bounded number of shards at a time.

    The bound keeps the Prefect server's event queue short: it drops events in bursts.
    """
    open_now: deque[list[PrefectConcurrentFuture[None]]] = deque()
    for shard in shards:
        if len(open_now) == open_shards:
            _finish(open_now.popleft())
        open_now.append(_submit_stages(run, shard))
    for task_runs in open_now:
        _finish(task_runs)


def _finish(task_runs: list[PrefectConcurrentFuture[None]]) -> None:
    """Wait for a shard's tasks; the first that failed is the cause, those after it never start."""
    for task_run in task_runs:
        task_run.result()


def _submit_stages(run: JobRun, shard: Shard) -> list[PrefectConcurrentFuture[None]]:
    task_runs: list[PrefectConcurrentFuture[None]] = []
    for stage_name in STAGES:
        named: Any = render_shard_stage.with_options(name=stage_name)
        task_runs.append(named.submit(run, shard, stage_name, wait_for=task_runs[-1:]))
    return task_runs


@contextmanager
def _pools(job: Job, config: RenderConfig) -> Iterator[dict[str, Pool]]:
    """The pools, started; they stop with their actors when the run ends."""
    sizes = {"assembly": config.pools.assembly, "render": config.pools.render}
    factories = _factories(job, config)
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(
                Pool(
                    name=name,
                    stages={s: make for s, make in factories.items() if POOL_OF_STAGE[s] == name},
                    output_url=job.output.url,
                    config=size,
                    num_threads=config.num_threads,
                )
            )
            for name, size in sizes.items()
        }


def _factories(job: Job, config: RenderConfig) -> dict[str, Callable[[], Any]]:
    """What each actor calls to build its stages: classes with their configuration."""
    url = job.output.url
    return {
        "prompts": partial(
            PromptsStage,
            config=config.prompts,
            model=config.keyframes.model,
            num_frames=config.motion.num_frames,
            fps=config.films.fps,
        ),
        "keyframes": partial(KeyframesStage, output_url=url, config=config.keyframes),
        "motion": partial(MotionStage, output_url=url, config=config.motion),
        "films": partial(FilmsStage, output_url=url, config=config.films),
    }
