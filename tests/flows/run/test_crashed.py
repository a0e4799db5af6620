"""A run is marked as crashed when it has ended, and never while it may be at work."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.states import Running

from storyreel.flows.run import crashed
from storyreel.flows.run.crashed import STORYREEL, mark_crashed_runs, mark_lost_runs, process_tags
from storyreel.stages.output.processes import ProcessId


@flow(name="render")
def render(output_url: str) -> None:
    """A run that has just got the lock of an output."""
    mark_lost_runs(output_url)


@pytest.fixture
def client(prefect_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[SyncPrefectClient]:
    monkeypatch.setenv("PREFECT_API_URL", prefect_url)
    with get_client(sync_client=True) as client:
        yield client


def running(client: SyncPrefectClient, output: Path, tags: list[str]) -> UUID:
    state: State[Any] = Running()
    parameters = {"output_url": str(output)}
    return client.create_flow_run(render, parameters=parameters, state=state, tags=tags).id


def tags_of(process: ProcessId) -> list[str]:
    return [STORYREEL, crashed._PROCESS + crashed._name(process)]


def test_a_run_of_a_process_that_ended_here_is_marked(
    client: SyncPrefectClient, tmp_path: Path
) -> None:
    ended = replace(ProcessId.current(), started=1)
    run = running(client, tmp_path, tags_of(ended))
    mark_crashed_runs()
    assert client.read_flow_run(run).state_name == "Crashed"


def test_a_living_run_is_not_marked_not_even_one_of_another_container(
    client: SyncPrefectClient, tmp_path: Path
) -> None:
    """Containers may share a host name; the numbers of their processes mean nothing to another."""
    hidden = replace(ProcessId.current(), machine="0" * 12, pid=2**22, started=1)
    runs = [running(client, tmp_path, tags) for tags in (process_tags(), tags_of(hidden))]
    mark_crashed_runs()
    assert [client.read_flow_run(run).state_name for run in runs] == ["Running", "Running"]


def test_whoever_gets_the_lock_of_an_output_marks_the_run_that_had_it(
    client: SyncPrefectClient, tmp_path: Path
) -> None:
    hidden = tags_of(replace(ProcessId.current(), machine="0" * 12))
    lost, other = (running(client, tmp_path / name, hidden) for name in ("mine", "other"))
    render(str(tmp_path / "mine"))
    assert client.read_flow_run(lost).state_name == "Crashed"
    assert client.read_flow_run(other).state_name == "Running"
