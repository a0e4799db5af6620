"""Marks flow runs as crashed whose process has ended: a killed process cannot report it itself."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
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
from prefect.client.schemas.sorting import FlowRunSort
from prefect.runtime import flow_run
from prefect.states import Crashed

from storyreel.stages.output.processes import ProcessId

STORYREEL = "storyreel"
_PROCESS = "process:"
_UNFINISHED = [StateType.PENDING, StateType.RUNNING]
_LONGEST_PENDING = timedelta(minutes=15)
"""Time after which a pending run counts as stuck; a worker starts its process within seconds."""


def process_tags() -> list[str]:
    """Return tags by which a later command recognises the runs of this process."""
    return [STORYREEL, _PROCESS + _name(ProcessId.current())]


@contextmanager
def own_flow_run() -> Iterator[None]:
    """Tag this flow run with its process for the time of the context.

    The tag is removed in the end, because another process may continue the run.
    """
    run_id = UUID(flow_run.id)
    # Without the server a run continues untagged; Prefect's heartbeats still tell if it dies.
    with suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        _tag(client, run_id, process_tags())
    try:
        yield
    finally:
        with suppress(httpx.HTTPError), get_client(sync_client=True) as client:
            disown_flow_run(client, run_id)


def disown_flow_run(client: SyncPrefectClient, flow_run_id: UUID) -> None:
    """Remove the tag of the process from a run."""
    _tag(client, flow_run_id, [STORYREEL])


def _tag(client: SyncPrefectClient, flow_run_id: UUID, ours: list[str]) -> None:
    others = {tag for tag in client.read_flow_run(flow_run_id).tags if not tag.startswith(_PROCESS)}
    client.update_flow_run(flow_run_id, tags=sorted(others | set(ours)))


def mark_crashed_runs() -> int:
    """Mark our unfinished runs as crashed whose process on this host has ended; return how many.

    Runs that a worker took and never started are marked too: they would block the work pool, which
    runs one at a time.
    """
    with get_client(sync_client=True) as client:
        runs = _read_runs(client, _UNFINISHED)
        dead = [run for run in runs if _is_dead(run) or _is_stuck(run)]
        for run in dead:
            _mark(client, run)
    return len(dead)


def mark_lost_runs(output_url: str) -> None:
    """Mark other runs on an output as crashed; only for the run that holds the output's lock.

    The lock says that no other run works there, wherever that run's process was.
    """
    with suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        own = client.read_flow_run(UUID(flow_run.id))
        for run in _read_runs(client, [StateType.RUNNING]):
            same = run.flow_id == own.flow_id and run.parameters.get("output_url") == output_url
            if same and run.id != own.id:
                _mark(client, run)


def _read_runs(client: SyncPrefectClient, types: list[StateType]) -> list[FlowRun]:
    """Return our runs whose state is of one of these types."""
    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            tags=FlowRunFilterTags(any_=[STORYREEL]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=types)),
        )
    )


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
    disown_flow_run(client, run.id)


def read_interrupted_runs(client: SyncPrefectClient, since: datetime) -> list[FlowRun]:
    """Return our runs of deployments that crashed after `since` or are still unfinished.

    Runs that a process on another host works on are left out.
    """
    runs = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            tags=FlowRunFilterTags(all_=[STORYREEL]),
            state=FlowRunFilterState(
                type=FlowRunFilterStateType(any_=[*_UNFINISHED, StateType.CRASHED])
            ),
        ),
        sort=FlowRunSort.START_TIME_DESC,
    )
    ours = [run for run in runs if run.deployment_id is not None and not _is_elsewhere(run)]
    return [run for run in ours if _ended_since(run, since)]


def _ended_since(run: FlowRun, moment: datetime) -> bool:
    """True if a run ended after a moment, or has no final state."""
    return run.state is None or not run.state.is_final() or run.state.timestamp >= moment


def _is_stuck(run: FlowRun) -> bool:
    if run.state is None or not run.state.is_pending():
        return False
    return datetime.now(UTC) - run.state.timestamp > _LONGEST_PENDING


def _name(process: ProcessId) -> str:
    return f"{process.host}/{process.machine}/{process.pid}/{process.started}"


def _is_dead(run: FlowRun) -> bool:
    return any(map(_process_is_gone, _processes_of(run)))


def _is_elsewhere(run: FlowRun) -> bool:
    return not all(map(_is_of_this_host, _processes_of(run)))


def _processes_of(run: FlowRun) -> list[str]:
    """Return the identities of the processes that work on a run: one or none."""
    return [tag.removeprefix(_PROCESS) for tag in run.tags if tag.startswith(_PROCESS)]


def _is_of_this_host(name: str) -> bool:
    return name.partition("/")[0] == socket.gethostname()


def _process_is_gone(name: str) -> bool:
    """True if a process is known to have ended; a container or another host hides it."""
    try:
        host, machine, pid, started = name.split("/")
        process = ProcessId(host=host, machine=machine, pid=int(pid), started=int(started))
    except ValueError:  # a tag of another version
        return False
    return process.is_dead
