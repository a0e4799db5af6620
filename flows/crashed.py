"""Marks the flow runs whose process is gone: a killed process cannot say so itself."""

import socket
from typing import Any

import psutil
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Crashed

STORYREEL = "storyreel"
_PROCESS = "process:"
_UNFINISHED = [StateType.PENDING, StateType.RUNNING]


def process_tags() -> list[str]:
    """Tags by which a later command recognises the runs of this process."""
    return [STORYREEL, _PROCESS + _identify(psutil.Process())]


def mark_crashed_runs() -> int:
    """Mark our unfinished runs whose process, on this host, is gone; how many there were."""
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                tags=FlowRunFilterTags(all_=[STORYREEL]),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_UNFINISHED)),
            )
        )
        dead = [run for run in runs if _is_dead(run)]
        for run in dead:
            _mark(client, run)
    return len(dead)


def _mark(client: SyncPrefectClient, run: FlowRun) -> None:
    state: State[Any] = Crashed(
        message="The process of this run is gone; run the job again to continue it."
    )
    for task_run in client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])),
        task_run_filter=TaskRunFilter(
            state=TaskRunFilterState(type=TaskRunFilterStateType(any_=_UNFINISHED))
        ),
    ):
        client.set_task_run_state(task_run.id, state, force=True)
    client.set_flow_run_state(run.id, state, force=True)


def _identify(process: psutil.Process) -> str:
    """A process for good: its number alone would be given to another one later."""
    return f"{socket.gethostname()}/{process.pid}/{process.create_time():.0f}"


def _is_dead(run: FlowRun) -> bool:
    tags = [tag.removeprefix(_PROCESS) for tag in run.tags if tag.startswith(_PROCESS)]
    return any(_process_is_gone(tag) for tag in tags)


def _process_is_gone(identity: str) -> bool:
    host, pid, _ = identity.rsplit("/", 2)
    if host != socket.gethostname():
        return False  # another machine's processes cannot be seen from here
    try:
        return _identify(psutil.Process(int(pid))) != identity
    except psutil.NoSuchProcess:
        return True
