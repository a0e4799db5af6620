"""Puts the states of task runs right where the Prefect server missed what happened.

Task runs tell their states by events, and events are lost when the server dies between taking and
keeping them. What is sealed at the output is over, whatever the server remembers.
"""

import re
import time
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed

from flows.job import Job
from flows.shards import STAGES, ShardPipeline

SETTLE_S = 15.0
"""How long the server may take to record the last events, seconds."""

PAGE = 200

_STAGE_OF_SHARD = re.compile(rf"(?P<stage>{'|'.join(STAGES)}) (?P<shard>\d+-of-\d+)")
"""Starts a task run's name, also before it has begun."""


def settle_task_runs(client: SyncPrefectClient, job: Job, flow_run_id: UUID) -> int:
    """Complete the task runs whose stage is sealed but whose end was never recorded.

    Returns:
        How many there were.
    """
    deadline = time.monotonic() + SETTLE_S
    while (open_runs := _unfinished(client, flow_run_id)) and time.monotonic() < deadline:
        time.sleep(0.5)
    sealed = [run for run in open_runs if _is_sealed(job, run.name)]
    state: State[None] = Completed(message="Sealed at the output; the event was lost.")
    for run in sealed:
        client.set_task_run_state(run.id, state, force=True)
    return len(sealed)


def _unfinished(client: SyncPrefectClient, flow_run_id: UUID) -> list[TaskRun]:
    runs = read_task_runs(client, flow_run_id)
    return [run for run in runs if not _is_over(run)]


def _is_over(run: TaskRun) -> bool:
    """Whether nothing more comes of a run; one whose predecessor failed never starts."""
    return run.state is not None and (run.state.is_final() or run.state.name == "NotReady")


def read_task_runs(client: SyncPrefectClient, flow_run_id: UUID) -> list[TaskRun]:
    """All task runs of a flow run."""
    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    runs: list[TaskRun] = []
    while True:
        page = client.read_task_runs(flow_run_filter=of_run, limit=PAGE, offset=len(runs))
        runs += page
        if len(page) < PAGE:
            return runs


def _is_sealed(job: Job, run_name: str) -> bool:
    """Whether the stage of a shard that a task run is named after is over."""
    named = _STAGE_OF_SHARD.match(run_name)
    shards = [shard for shard in job.shards if named and str(shard) == named["shard"]]
    if named is None or not shards:
        return False
    pipeline = ShardPipeline(job.output, shards[0], fingerprint=job.fingerprint, fps=1)
    return pipeline.stage(named["stage"]).is_sealed(job.output)
