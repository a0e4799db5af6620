"""Corrects the task runs that the Prefect server has lost events of.

Task runs report their start and end to the server by events. Events are lost if the server dies
after it has received them and before it has stored them. The flow run's process still knows them.
"""

import time
from typing import Any
from uuid import UUID

from prefect import Task
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectConcurrentFuture

SETTLE_S = 15.0
"""Seconds that the server may take to store the last events."""

PAGE = 200


class TaskRuns:
    """The task runs that a flow run has submitted."""

    def __init__(self) -> None:
        self._submitted: list[tuple[Task[..., Any], PrefectConcurrentFuture[Any]]] = []

    def add(self, task: Task[..., Any], future: PrefectConcurrentFuture[Any]) -> None:
        """Remember a task run; the name of `task` is shown in the UI."""
        self._submitted.append((task, future))

    def settle(self, client: SyncPrefectClient, flow_run_id: UUID) -> int:
        """Report the runs that have ended and that the server does not know, or not as ended.

        Returns:
            The number of these runs.
        """
        deadline = time.monotonic() + SETTLE_S
        recorded = read_task_runs(client, flow_run_id)
        while (missed := self._missed(recorded)) and time.monotonic() < deadline:
            time.sleep(0.5)
            recorded = read_task_runs(client, flow_run_id)
        known = {run.id for run in recorded}
        for task, run_id, end in missed:
            if run_id not in known:
                client.create_task_run(task, flow_run_id, str(run_id), id=run_id)
            client.set_task_run_name(run_id, task.name)
            client.set_task_run_state(run_id, end, force=True)
        return len(missed)

    def _missed(self, recorded: list[TaskRun]) -> list[tuple[Task[..., Any], UUID, State[Any]]]:
        """Return the runs that have ended, but not in the server's records, with their states."""
        ended = {run.id for run in recorded if _has_ended(run)}
        missed = [(task, run) for task, run in self._submitted if run.task_run_id not in ended]
        ends = [(task, run.task_run_id, _end_of(run)) for task, run in missed]
        return [(task, run_id, end) for task, run_id, end in ends if end is not None]


def read_task_runs(client: SyncPrefectClient, flow_run_id: UUID) -> list[TaskRun]:
    """Return all task runs of a flow run."""
    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    runs: list[TaskRun] = []
    while True:
        page = client.read_task_runs(flow_run_filter=of_run, limit=PAGE, offset=len(runs))
        runs += page
        if len(page) < PAGE:
            return runs


def _has_ended(run: TaskRun) -> bool:
    """True if the state of a run is final; `NotReady` is, since a task before it has failed."""
    return run.state is not None and (run.state.is_final() or run.state.name == "NotReady")


def _end_of(future: PrefectConcurrentFuture[Any]) -> State[Any] | None:
    """Return the state in which a run ended, without its result; `None` if it has not ended."""
    ended = future.wrapped_future
    if not ended.done() or ended.cancelled() or ended.exception() is not None:
        return None
    state: Any = ended.result()
    return State(type=state.type, name=state.name, message=state.message)
