"""What looks after submissions: one that cannot be read is told, and stops none of the others."""

import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.states import Crashed, Pending, Running, Suspended

from storyreel.flows.job.control import CONTROL, Approval, update_control
from storyreel.flows.night.approval import resume_answered
from storyreel.flows.night.deployment import deploy, night
from storyreel.flows.night.work_pool import DEPLOYMENT, JOB_FLOW
from storyreel.flows.run.crashed import STORYREEL, process_tags, read_interrupted_runs
from storyreel.stages.output.storage import Output
from tests.flows.inline import lay_out, render_inline

pytestmark = pytest.mark.usefixtures("prefect_url")


def submitted(client: SyncPrefectClient, url: str, state: Any = None, **more: Any) -> FlowRun:
    """A run of the deployment `job` for an output."""
    deploy(client)
    deployment = client.read_deployment_by_name(f"{JOB_FLOW}/{DEPLOYMENT}")
    parameters = {"input_url": "stories.jsonl", "output_url": url}
    run = client.create_flow_run_from_deployment(deployment.id, parameters=parameters, state=state)
    client.update_flow_run(run.id, **more)
    return run


def make_job(folder: Path, name: str, rendered: bool = False) -> Output:
    output = Output(str(folder / name))
    lay_out(output, folder / "input" / name, 2)
    if rendered:
        render_inline(output)
    return output


def test_a_night_tells_of_every_submission_that_cannot_be_read(tmp_path: Path) -> None:
    steered, laid_out = make_job(tmp_path, "steered"), make_job(tmp_path, "laid-out")
    steered.publish(f"{CONTROL}/000001.json", b"damaged")
    laid_out.publish("job.json", b"damaged")
    outputs = ["memory://nowhere", steered.url, laid_out.url, make_job(tmp_path, "over", True).url]
    with get_client(sync_client=True) as client:
        for url in outputs:
            submitted(client, url)
    now = datetime.now(UTC)
    hours = [f"{now + timedelta(hours=hour):%H:%M}" for hour in (-1, 1)]
    state = night(f"{'-'.join(hours)} UTC", return_state=True)
    assert state.is_failed()
    told = str(state.message).splitlines()
    assert len(told) == 3
    for url, line in zip(outputs, told, strict=False):
        assert line.startswith(f"{url}: ")


def test_an_answer_that_cannot_be_read_holds_up_no_other_one(tmp_path: Path) -> None:
    damaged, answered = make_job(tmp_path, "damaged"), make_job(tmp_path, "answered")
    damaged.publish(f"{CONTROL}/000001.json", b"damaged")
    update_control(answered, approval=Approval.APPROVED)
    with get_client(sync_client=True) as client:
        runs = [
            submitted(client, output.url, Suspended(timeout_seconds=60))
            for output in (damaged, answered)
        ]
        (problem,) = resume_answered(client)
        states = [client.read_flow_run(run.id).state_name for run in runs]
    assert damaged.url in problem
    assert "000001.json" in problem
    assert states == ["Suspended", "Resuming"]


def test_only_runs_of_this_host_are_put_back_when_its_server_stops(tmp_path: Path) -> None:
    began = datetime.now(UTC)
    here = process_tags()
    elsewhere = [tag.replace(socket.gethostname(), "another-host") for tag in here]
    url = str(tmp_path / "job")
    with get_client(sync_client=True) as client:
        mine = [
            submitted(client, url, Running(), tags=here),
            submitted(client, url, Pending(), tags=[STORYREEL]),
            submitted(client, url, Crashed(), tags=[STORYREEL]),
        ]
        submitted(client, url, Running(), tags=elsewhere)
        found = read_interrupted_runs(client, began)
    assert {run.id for run in found} >= {run.id for run in mine}
    assert not any(set(elsewhere) <= set(run.tags) for run in found)
