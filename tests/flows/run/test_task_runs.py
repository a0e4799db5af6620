"""What the UI shows of a run's tasks is right in the end, whatever the server lost of them."""

import time
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import flow_run
from prefect.states import Completed, Running

from storyreel.flows.run import task_runs
from storyreel.flows.run.prefect_server import prefect_api
from storyreel.flows.run.task_runs import TaskRuns, read_task_runs


@task(task_run_name="{name}", cache_policy=NO_CACHE)
def work(name: str) -> State[Any]:
    if name == "fails":
        raise ValueError("no")
    return Completed(name="CarriedOver" if name == "carried" else None)


NAMES = ["whole", "lost", "open", "carried", "fails", "never"]


def recorded(client: SyncPrefectClient, flow_run_id: UUID) -> dict[str, TaskRun]:
    """The task runs of a flow run once the server knows how all of them ended."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        runs = {run.name: run for run in read_task_runs(client, flow_run_id)}
        # A run has another name at first.
        if runs.keys() == set(NAMES) and all(run.state_name != "Running" for run in runs.values()):
            return runs
        time.sleep(0.2)
    raise AssertionError(f"the server knows {sorted(runs)}")


def test_task_runs_that_the_server_lost_are_told_to_it_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(task_runs, "SETTLE_S", 1.0)
    shown: dict[str, str | None] = {}

    @flow
    def night() -> State[Any]:
        submitted = TaskRuns()
        before: list[Any] = []
        for name in NAMES:
            named: Any = work.with_options(name=name)
            future = named.submit(name, wait_for=before)
            before = [future] if name == "fails" else []
            submitted.add(named, future)
            future.wait()
        run_id = UUID(flow_run.id)
        with get_client(sync_client=True) as client:
            runs = recorded(client, run_id)
            for lost in ("lost", "carried", "fails", "never"):
                client.request("DELETE", "/task_runs/{id}", path_params={"id": runs[lost].id})
            client.set_task_run_state(runs["open"].id, Running(), force=True)
            client.set_task_run_name(runs["open"].id, "open-54c")  # as before it began

            assert submitted.settle(client, run_id) == 5
            shown.update({run.name: run.state_name for run in read_task_runs(client, run_id)})
            assert submitted.settle(client, run_id) == 0
        return Completed()

    with prefect_api():
        night()
    ends = ["Completed", "Completed", "Completed", "CarriedOver", "Failed", "NotReady"]
    assert shown == dict(zip(NAMES, ends, strict=True))
