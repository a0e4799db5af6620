"""A running job obeys its control record and its window, and loses nothing by it.

Real Ray, Prefect, processes and files; only the stages are simulated. The commands run here, in
another process than the job's.
"""

import json
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from benchmarks import simulated
from storyreel.flows.job.job import read_job
from storyreel.flows.job.lock import holder_of
from storyreel.flows.job.status import count_units
from storyreel.flows.plans.plan import read_plan
from storyreel.stages.output.manifests import read_manifests
from storyreel.stages.output.records import Film
from storyreel.stages.output.storage import Output
from tests.flows.conftest import wait_until
from tests.flows.simulation import NUM_STORIES, Simulation, end_of
from tests.records import commit_records, open_attempts

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def simulation(tmp_path: Path, prefect_url: str) -> Simulation:
    (tmp_path / "config.toml").write_text(simulated.CONFIG)
    (tmp_path / "stories.jsonl").write_text("\n".join(simulated.make_rows(NUM_STORIES)))
    return Simulation(folder=tmp_path, prefect_url=prefect_url)


def actors_of(process: subprocess.Popen[str]) -> list[int]:
    """The processes of the job's render actors."""
    children = psutil.Process(process.pid).children(recursive=True)
    return [child.pid for child in children if "ray::Worker" in _title(child)]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def test_pause_resume_limits_and_both_cancels_lose_nothing(simulation: Simulation) -> None:
    first = simulation.start("--set", "execution.keep_paused_s=1")
    wait_until(simulation.num_clips, first)
    assert simulation.ask("status")["phase"] == "running"

    simulation.ask("pause")
    wait_until(lambda: simulation.ask("status")["phase"] == "paused", first)
    wait_until(lambda: not actors_of(first), first)  # their GPUs are free
    paused_at = simulation.commits()
    time.sleep(2)
    assert simulation.commits() == paused_at
    assert not open_attempts(simulation.output)

    simulation.ask("set", "--priority", "9", "--limit", "render=1", "--limit", "assembly=1")
    simulation.ask("resume")
    wait_until(lambda: simulation.num_clips() >= 2 + len(_motion(paused_at)), first)
    told = simulation.ask("status")
    assert (told["control"]["priority"], told["control"]["limits"]["render"]) == (9, 1)
    assert len(actors_of(first)) <= 2  # of three configured

    simulation.ask("cancel")
    assert end_of(first).startswith("CANCELLED|Cancelled|")
    drained = simulation.commits()
    assert paused_at.items() <= drained.items()
    assert not open_attempts(simulation.output)

    simulation.ask("set", "--limit", "render=2")
    second = simulation.start()
    wait_until(lambda: simulation.num_clips() > len(_motion(drained)), second)
    simulation.ask("cancel", "--now")
    assert end_of(second).startswith("CANCELLED|Cancelled|")
    assert drained.items() <= simulation.commits().items()

    assert end_of(simulation.start("--speed", "20")).startswith("COMPLETED|Completed|6 films")
    assert drained.items() <= simulation.commits().items()
    simulation.check_complete()


def _motion(commits: dict[str, str]) -> list[str]:
    return [path for path in commits if path.startswith("units/motion")]


@pytest.mark.slow
def test_a_window_that_closes_in_the_middle_cuts_no_unit_and_the_next_night_goes_on(
    simulation: Simulation,
) -> None:
    window = ["--set", 'execution.window="22:00-06:00 UTC"', "--night-s", "8", "--speed", "0.5"]
    first = simulation.start(*window)
    told = end_of(first)
    assert told.startswith("COMPLETED|CarriedOver|"), told
    assert "stories carried over; the window opens 2026-01-11 22:00 UTC" in told
    assert not open_attempts(simulation.output)
    morning = float((simulation.folder / "morning").read_text())
    clips = [json.loads(clip) for clip in commit_records(simulation.output, "motion").values()]
    assert clips
    # A clip takes two seconds, give or take; one that starts a second before cannot be over.
    started = [clip["ended_at"] - clip["seconds"] for clip in clips]
    assert max(started) < morning - 1.0
    after_first = simulation.commits()

    second = end_of(simulation.start(*window))
    assert second.startswith("COMPLETED|"), second
    after_second = simulation.commits()
    assert len(after_second) > len(after_first)
    assert after_first.items() <= after_second.items()
    simulation.ask("set", "--window", "always")
    assert end_of(simulation.start("--speed", "20")).startswith("COMPLETED|Completed|6 films")
    simulation.check_complete()


@pytest.mark.slow
def test_a_run_that_is_terminated_stops_its_ray_and_frees_its_job(simulation: Simulation) -> None:
    """What a cancel in the Prefect UI does to the process."""
    run = simulation.start()
    wait_until(simulation.num_clips, run)
    family = psutil.Process(run.pid).children(recursive=True)
    run.send_signal(signal.SIGTERM)
    run.communicate(timeout=300)
    assert run.returncode == -signal.SIGTERM  # by itself, after it had closed everything
    *_, claim = sorted(simulation.output.glob("lock/*.json"))
    assert json.loads(claim.read_text())["released"]
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not [child.name() for child in alive]
    assert holder_of(Output(str(simulation.output))) is None
    told = simulation.ask("status")
    assert (told["phase"], told["holder"]) == ("stopped", None)
    assert told["stages"][2]["done"] == simulation.num_clips() > 0


@pytest.mark.slow
def test_the_rest_is_rendered_once_the_sample_and_its_plan_are_approved(
    simulation: Simulation,
) -> None:
    fast = ["--speed", "10", "--sample", "2"]
    told = end_of(simulation.start(*fast))
    assert told.startswith("COMPLETED|WaitsForApproval|2 films"), told
    sampled = simulation.commits()
    output = Output(str(simulation.output))
    films = sorted(film.story_id for film in read_manifests(output, "films", Film))
    assert films == ["s000001", "s000004"]  # spread over the input
    plan = read_plan(output)
    assert plan is not None
    again = end_of(simulation.start(*fast))
    assert "waits for approval" in again  # nobody has said yes

    simulation.ask("approve")
    assert end_of(simulation.start(*fast)).startswith("COMPLETED|Completed|6 films")
    assert sampled.items() <= simulation.commits().items()
    simulation.check_complete()
    census = count_units(read_job(output))
    planned = {stage.stage: stage for stage in plan.stages}
    assert plan.shots.low == plan.shots.high == census.done["motion"]
    assert planned["films"].units.value == census.done["films"] == NUM_STORIES
