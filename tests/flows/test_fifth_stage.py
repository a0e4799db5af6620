"""A stage that is added by one class and one row of the table is a stage like any other."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.settings import PREFECT_API_URL, temporary_settings

from examples.poster import WITH_POSTERS, Poster
from storyreel.flows.audit.repair import open_for_repair
from storyreel.flows.audit.verify import verify
from storyreel.flows.job.config import load_config
from storyreel.flows.job.job import read_job
from storyreel.flows.job.status import find_status
from storyreel.flows.plans.rates import read_rates
from storyreel.flows.plans.sample import plan_job
from storyreel.stages.output.manifests import read_manifests
from storyreel.stages.output.storage import Output
from tests.flows.conftest import ROOT, Command

Render = Callable[[Path], None]


@pytest.fixture(scope="module")
def render(command: Command, shared_config: Path, stories: Path) -> Render:
    """Renders the stories with posters."""

    def run(output: Path) -> None:
        arguments = [str(stories), str(output), "--config", str(shared_config)]
        done = subprocess.run(
            [sys.executable, "-m", "examples.poster", *arguments],
            cwd=ROOT,
            env=command.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    return run


@pytest.fixture(scope="module")
def job(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job of three stories in two shards, rendered with posters."""
    output = tmp_path_factory.mktemp("posters") / "with-posters"
    render(output)
    return output


def test_every_film_has_its_poster_and_status_counts_them(job: Path) -> None:
    posters = list(read_manifests(Output(str(job)), "posters", Poster))
    assert sorted(poster.story_id for poster in posters) == ["bear", "fox", "zoe"]
    status = find_status(str(job), WITH_POSTERS)
    assert status.phase == "finished"
    last = status.stages[-1]
    assert (last.stage, last.done, last.failed, last.total) == ("posters", 3, 0, 3)


def test_prefect_shows_a_task_run_of_each_shard(job: Path, prefect_url: str) -> None:
    with temporary_settings({PREFECT_API_URL: prefect_url}), get_client(sync_client=True) as client:
        (run,) = (run for run in client.read_flow_runs() if run.name.startswith(job.name))
        ours = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
        runs = client.read_task_runs(flow_run_filter=ours)
    posters = sorted((r.name, r.state_name) for r in runs if r.name.startswith("posters"))
    assert posters == [(f"posters 0000{i}-of-00002", "Completed") for i in range(2)]
    assert len(runs) == 2 * len(WITH_POSTERS)


def test_the_rates_of_its_units_are_in_the_plan_of_a_job(job: Path, command: Command) -> None:
    output = Output(str(job))
    rates = read_rates(output)
    assert rates["posters"].num_units == 3
    plan = plan_job(read_job(output, WITH_POSTERS), load_config(str(command.config)), rates)
    (posters,) = (stage for stage in plan.stages if stage.stage == "posters")
    assert posters.units.value == 3
    assert posters.gigabytes.value == pytest.approx(
        sum(path.stat().st_size for path in job.glob("posters/*")) / 1e9
    )


@pytest.mark.slow
def test_what_is_damaged_or_belongs_to_no_film_is_found_and_made_again(
    job: Path, render: Render
) -> None:
    output = Output(str(job))
    assert verify(output, WITH_POSTERS).problems == []
    before = {path.name: path.read_bytes() for path in job.glob("films/*")}
    poster = job / "posters/fox.png"
    content = poster.read_bytes()
    poster.write_bytes(b"damaged")
    (job / "posters/nobody.png").write_bytes(b"")
    problems = {(p.kind, p.place) for p in verify(output, WITH_POSTERS).problems}
    assert problems == {("file", "posters/fox.png"), ("orphan", "posters/nobody.png")}

    assert open_for_repair(output, WITH_POSTERS) == ("posters/fox.png",)
    assert find_status(str(job), WITH_POSTERS).phase == "stopped"
    (job / "posters/nobody.png").unlink()
    render(job)
    assert poster.read_bytes() == content
    assert {path.name: path.read_bytes() for path in job.glob("films/*")} == before
    assert verify(output, WITH_POSTERS).problems == []


def test_a_row_that_does_not_fit_into_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="stage posters: its name or a manifest of it is taken"):
        WITH_POSTERS.with_stage(WITH_POSTERS.last)
