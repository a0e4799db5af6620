"""A stage that is added by one class and one row of the table is a stage like any other."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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

TASK_RUNS = """
import json
from prefect.client.orchestration import get_client

with get_client(sync_client=True) as client:
    print(json.dumps([[run.name, run.state_name] for run in client.read_task_runs()]))
"""


def python(prefect_home: Path, *arguments: str) -> str:
    """What a process prints that has a Prefect database of its own."""
    environment = {**os.environ, "PREFECT_HOME": str(prefect_home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def render(output: Path, stories: Path, command: Command) -> None:
    arguments = (str(stories), str(output), "--config", str(command.config))
    python(output.parent / "prefect", "-m", "examples.poster", *arguments)


@pytest.fixture(scope="module")
def job(command: Command, stories: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job of three stories in two shards, rendered with posters."""
    output = tmp_path_factory.mktemp("posters") / "job"
    render(output, stories, command)
    return output


def test_every_film_has_its_poster_and_status_counts_them(job: Path) -> None:
    posters = list(read_manifests(Output(str(job)), "posters", Poster))
    assert sorted(poster.story_id for poster in posters) == ["bear", "fox", "zoe"]
    status = find_status(str(job), WITH_POSTERS)
    assert status.phase == "finished"
    last = status.stages[-1]
    assert (last.stage, last.done, last.failed, last.total) == ("posters", 3, 0, 3)


def test_prefect_shows_a_task_run_of_each_shard(job: Path) -> None:
    runs = json.loads(python(job.parent / "prefect", "-c", TASK_RUNS).splitlines()[-1])
    posters = sorted(run for run in runs if run[0].startswith("posters"))
    assert posters == [[f"posters 0000{i}-of-00002", "Completed"] for i in range(2)]
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


def test_what_is_damaged_or_belongs_to_no_film_is_found_and_made_again(
    job: Path, command: Command, stories: Path
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
    render(job, stories, command)
    assert poster.read_bytes() == content
    assert {path.name: path.read_bytes() for path in job.glob("films/*")} == before
    assert verify(output, WITH_POSTERS).problems == []


def test_a_row_that_does_not_fit_into_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="stage posters: its name or a manifest of it is taken"):
        WITH_POSTERS.with_stage(WITH_POSTERS.last)
