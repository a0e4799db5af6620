"""One run of a job: hands units to the pools, and counts and reports what becomes of them."""

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from prefect import Task, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectConcurrentFuture
from prefect.states import Completed

from storyreel.cluster.pool import Pool
from storyreel.cluster.work import Work
from storyreel.flows.job.retention import remove_intermediates
from storyreel.flows.run.monitor import Watched
from storyreel.flows.run.shards import StageOfShard, render_stage, stages_of
from storyreel.flows.views.progress import StageProgress
from storyreel.stages.output.commits import Commit, UnitId
from storyreel.stages.output.manifests import Shard
from storyreel.stages.output.records import Failure

CARRIED_OVER = "CarriedOver"
"""Name of the state of runs that ended without an error and left something for the next run."""


class JobRun:
    """One run of a job: its pools and its counters; called from the threads of the tasks."""

    def __init__(
        self, watched: Watched, pools: Mapping[str, Pool], progress: StageProgress
    ) -> None:
        self._watched = watched
        self._pools = pools
        self._progress = progress
        self._pool_of_stage = {spec.name: pools[spec.pool] for spec in watched.job.stages}

    @property
    def is_ending(self) -> bool:
        """True if the run was told to end before its job is finished."""
        return self._watched.open_units.dropped

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The names of the job's stages, in order."""
        return self._watched.job.stages.names

    def render_stage(self, shard: Shard, stage_name: str) -> bool:
        """Render a stage of a shard and seal it, unless it is sealed already.

        Returns:
            True if it is sealed; False if the run was told to end first.
        """
        stages = stages_of(self._watched.job, shard, self._watched.config)
        stage = stages[self.stage_names.index(stage_name)]
        if stage.is_sealed():
            return True
        sealed = not self.is_ending and render_stage(stage, self)
        if sealed and stage.is_last and self._watched.config.retention.keep == "films":
            remove_intermediates(self._watched.job, shard)
        return sealed

    def submitted(self, task: Task[..., Any], task_run: PrefectConcurrentFuture[Any]) -> None:
        """Remember the task run of a stage of a shard, so that its end can be checked."""
        self._watched.task_runs.add(task, task_run)

    def submit(self, work: Work, priority: tuple[int, ...]) -> Future[Any]:
        """Queue a unit at the pool of its stage; it is cancelled if the run ends before."""
        future = self._pool_of_stage[work.unit.stage].submit(work, priority=priority)
        self._watched.open_units.add(future)
        return future

    def opened(self, stage: StageOfShard, num_units: int) -> None:
        """Count the units of a shard's stage."""
        num_stories = self._watched.job.size_of(stage.shard)
        self._watched.tally.opened(stage, num_units, num_stories)
        get_run_logger().info("%s %s: %d units", stage.spec.name, stage.shard, num_units)

    def reopened(self, stage: StageOfShard, num_units: int) -> None:
        """Do not count units as done that are rendered again."""
        self._watched.tally.reopened(stage.spec.name, num_units)

    def ended(self, unit: UnitId, result: Commit[Any] | Failure) -> None:
        """Count a unit that has ended."""
        stage = unit.stage
        self._watched.ended(stage, result)
        if isinstance(result, Failure):
            why = f"{result.error_class}: {result.message}"
            attempts = f"given up after {result.attempts} attempts, the last on {result.worker}"
            get_run_logger().warning("%s: %s: %s", unit, attempts, why)
        else:
            self._progress.warn(result.records)
            self._watched.meters.ran_on(stage, result.hardware)


@task(task_run_name="{stage_name} {shard}", cache_policy=NO_CACHE)
def render_shard_stage(run: JobRun, shard: Shard, stage_name: str) -> State[Any]:
    """Render one stage of one shard: one task run in the Prefect UI."""
    if run.render_stage(shard, stage_name):
        return Completed(message="sealed")
    return Completed(
        name=CARRIED_OVER, message="the run ended before it was finished; the next run continues it"
    )
