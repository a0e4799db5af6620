"""Puts the task runs right where the Prefect server missed what happened.

Task runs tell the server that they exist and what becomes of them by events, and events are lost
when the server dies between taking and keeping them. The process of the flow run knows better.
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
"""How long the server may take to record the last events, seconds."""

PAGE = 200


class TaskRuns:
    """The task runs that a flow run submitted, and how each ended."""

    def __init__(self) -> None:
        self._submitted: list[tuple[Task[..., Any], PrefectConcurrentFuture[Any]]] = []

    def add(self, task: Task[..., Any], future: PrefectConcurrentFuture[Any]) -> None:
        """Remember a run of a task, which shows its name."""
        self._submitted.append((task, future))

    def settle(self, client: SyncPrefectClient, flow_run_id: UUID) -> int:
        """Tell the server of the runs that ended and whose end, or existence, it never recorded.

        Returns:
            How many there were.
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
        """The runs that ended and did not for the server, with how they ended."""
        over = {run.id for run in recorded if _is_over(run)}
        missed = [(task, run) for task, run in self._submitted if run.task_run_id not in over]
        ends = [(task, run.task_run_id, _end_of(run)) for task, run in missed]
        return [(task, run_id, end) for task, run_id, end in ends if end is not None]


def read_task_runs(client: SyncPrefectClient, flow_run_id: UUID) -> list[TaskRun]:
    """All task runs of a flow run."""
    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    runs: list[TaskRun] = []
    while True:
        page = client.read_task_runs(flow_run_filter=of_run, limit=PAGE, offset=len(runs))
        runs += page
        if len(page) < PAGE:
            return runs


def _is_over(run: TaskRun) -> bool:
    """Whether nothing more comes of a run; one whose predecessor failed never starts."""
    return run.state is not None and (run.state.is_final() or run.state.name == "NotReady")


def _end_of(future: PrefectConcurrentFuture[Any]) -> State[Any] | None:
    """The state in which a run ended, if it did; its result stays in this process."""
    ended = future.wrapped_future
    if not ended.done() or ended.cancelled() or ended.exception() is not None:
        return None
    state: Any = ended.result()
    return State(type=state.type, name=state.name, message=state.message)
