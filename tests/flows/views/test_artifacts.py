"""What the UI shows of a running job follows the job, whatever others do to its files."""

import time
from pathlib import Path
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

from storyreel.flows.job.config import load_config
from storyreel.flows.job.job import Job
from storyreel.flows.job.status import STATUS, count_units, counted_status, write_status
from storyreel.flows.run.prefect_server import prefect_api
from storyreel.flows.run.task_runs import TaskRuns
from storyreel.flows.views import artifacts
from storyreel.flows.views.artifacts import shown
from storyreel.stages.output.storage import Output
from tests.flows.inline import lay_out, render_inline


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job that is rendered."""
    output = Output(str(tmp_path / "job"))
    lay_out(output, tmp_path, 4)
    return render_inline(output)


def told(run_id: str, name: str, field: str = "description") -> str | None:
    """What an artifact of a run says, once it says something; nothing after half a minute."""
    of_run = {"artifacts": {"flow_run_id": {"any_": [run_id]}}}
    deadline = time.monotonic() + 30
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            found = client.request("POST", "/artifacts/filter", json=of_run).json()
            texts = [str(one[field]) for one in found if one["key"].endswith(f"-{name}")]
            if texts:
                return texts[0]
            time.sleep(0.2)
    return None


def test_a_damaged_status_does_not_end_what_is_shown_while_the_job_runs(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "UPDATE_S", 0.2)
    job.output.publish(STATUS, b'{"stages": [')

    @flow
    def running() -> str | None:
        with shown(job, load_config("pocket"), UUID(flow_run.id), TaskRuns()):
            time.sleep(1)
            write_status(job.output, counted_status(job, count_units(job)))
            return told(flow_run.id, "films")

    with prefect_api():
        assert running() == "films: 4 of 4"


def test_a_damaged_contact_sheet_does_not_end_the_run_and_is_named(job: Job) -> None:
    sheet = Path(job.output.location("films/s001.png"))
    sheet.write_bytes(sheet.read_bytes()[:-9])

    @flow
    def running() -> str:
        with shown(job, load_config("pocket"), UUID(flow_run.id), TaskRuns()):
            return str(flow_run.id)

    with prefect_api():
        sheets = told(running(), "sheets", "data")
    assert sheets is not None
    assert sheets.count("data:image/jpeg") == 3
    assert "films/s001" in sheets.replace("\\", "")


def test_what_is_deleted_in_the_ui_while_the_job_runs_is_shown_anew_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "UPDATE_S", 0.2)
    monkeypatch.setattr(artifacts, "PATIENCE_S", 0.0)
    output = Output(str(tmp_path / "job"))
    job = lay_out(output, tmp_path, 4)
    write_status(output, counted_status(job, count_units(job)))

    @flow
    def running() -> str:
        with shown(job, load_config("pocket"), UUID(flow_run.id), TaskRuns()):
            assert told(flow_run.id, "films") == "films: 0 of 4"
            delete_artifacts(flow_run.id)
            render_inline(output)
        return str(flow_run.id)

    with prefect_api():
        assert told(running(), "films") == "films: 4 of 4"


def delete_artifacts(run_id: str) -> None:
    of_run = {"artifacts": {"flow_run_id": {"any_": [run_id]}}}
    with get_client(sync_client=True) as client:
        for found in client.request("POST", "/artifacts/filter", json=of_run).json():
            client.delete_artifact(found["id"])
