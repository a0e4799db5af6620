"""A running job obeys its control record and its window, and loses nothing by it.

Real Ray, Prefect, processes and files; only the stages are simulated. The commands run here, in
another process than the job's.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from benchmarks import simulated
from storyreel.flows.commands.cli import app
from storyreel.flows.job.job import read_job
from storyreel.flows.job.lock import holder_of
from storyreel.flows.job.status import count_units
from storyreel.flows.plans.plan import read_plan
from storyreel.stages.output.manifests import read_manifests
from storyreel.stages.output.records import Clip, Failure, Film
from storyreel.stages.output.storage import Output
from tests.flows.conftest import ROOT

NUM_STORIES = 6

pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True)
class Simulation:
    """A job, and the processes that run it."""

    folder: Path
    prefect_url: str

    @property
    def output(self) -> Path:
        return self.folder / "job"

    def start(self, *options: str) -> subprocess.Popen[str]:
        files = [str(self.folder / name) for name in ("stories.jsonl", "job", "config.toml")]
        environment = {
            **os.environ,
            "PREFECT_API_URL": self.prefect_url,
            "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
            "PYTHONPATH": str(ROOT),
        }
        return subprocess.Popen(
            [sys.executable, "-m", "tests.flows.simulated_job", *files, *options],
            env=environment,
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def ask(self, command: str, *options: str) -> dict[str, Any]:
        """Run a command on the job; what it prints."""
        arguments = [command, str(self.output), *options, "--json"]
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        told: dict[str, Any] = json.loads(result.stdout)
        return told

    def commits(self) -> dict[str, bytes]:
        """The commit records, by their paths."""
        paths = sorted(self.output.glob("units/*/*/*.done.json"))
        return {str(path.relative_to(self.output)): path.read_bytes() for path in paths}

    def num_clips(self) -> int:
        return sum(path.startswith("units/motion") for path in self.commits())

    def check_complete(self) -> None:
        """Every story has its film, from clips that were rendered once, at the first attempt."""
        output = Output(str(self.output))
        films = [film.story_id for film in read_manifests(output, "films", Film)]
        assert sorted(films) == [f"s{index:06d}" for index in range(NUM_STORIES)]
        assert not list(read_manifests(output, "failures", Failure))
        assert all(json.loads(commit)["attempts"] == 1 for commit in self.commits().values())
        clips = list(read_manifests(output, "clips", Clip))
        assert len(clips) == self.num_clips()


@pytest.fixture
def simulation(tmp_path: Path, prefect_url: str) -> Simulation:
    (tmp_path / "config.toml").write_text(simulated.CONFIG)
    (tmp_path / "stories.jsonl").write_text("\n".join(simulated.make_rows(NUM_STORIES)))
    return Simulation(folder=tmp_path, prefect_url=prefect_url)


def wait_for(process: subprocess.Popen[str], condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "waited for 300 s"
        time.sleep(0.1)


def end_of(process: subprocess.Popen[str]) -> str:
    stdout, stderr = process.communicate(timeout=400)
    assert process.returncode == 0, stderr
    return stdout.strip().splitlines()[-1]


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
    wait_for(first, simulation.num_clips)
    assert simulation.ask("status")["phase"] == "running"

    simulation.ask("pause")
    wait_for(first, lambda: simulation.ask("status")["phase"] == "paused")
    wait_for(first, lambda: not actors_of(first))  # their GPUs are free
    paused_at = simulation.commits()
    time.sleep(2)
    assert simulation.commits() == paused_at
    assert not list(simulation.output.glob("units/*/*/*.attempts.json"))

    simulation.ask("set", "--priority", "9", "--limit", "render=1", "--limit", "assembly=1")
    simulation.ask("resume")
    wait_for(first, lambda: simulation.num_clips() >= 2 + len(_motion(paused_at)))
    told = simulation.ask("status")
    assert (told["control"]["priority"], told["control"]["limits"]["render"]) == (9, 1)
    assert len(actors_of(first)) <= 2  # of three configured

    simulation.ask("cancel")
    assert end_of(first).startswith("CANCELLED|Cancelled|")
    drained = simulation.commits()
    assert paused_at.items() <= drained.items()
    assert not list(simulation.output.glob("units/*/*/*.attempts.json"))

    simulation.ask("set", "--limit", "render=2")
    second = simulation.start()
    wait_for(second, lambda: simulation.num_clips() > len(_motion(drained)))
    simulation.ask("cancel", "--now")
    assert end_of(second).startswith("CANCELLED|Cancelled|")
    assert drained.items() <= simulation.commits().items()

    assert end_of(simulation.start("--speed", "20")).startswith("COMPLETED|Completed|6 films")
    assert drained.items() <= simulation.commits().items()
    simulation.check_complete()


def _motion(commits: dict[str, bytes]) -> list[str]:
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
    assert not list(simulation.output.glob("units/*/*/*.attempts.json"))
    morning = float((simulation.folder / "morning").read_text())
    clips = list(simulation.output.glob("units/motion/*/*.done.json"))
    assert clips
    # A clip takes two seconds, give or take; one that starts a second before cannot be over.
    started = [path.stat().st_mtime - json.loads(path.read_text())["seconds"] for path in clips]
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


def test_a_run_that_is_terminated_stops_its_ray_and_frees_its_job(simulation: Simulation) -> None:
    """What a cancel in the Prefect UI does to the process."""
    run = simulation.start()
    wait_for(run, simulation.num_clips)
    family = psutil.Process(run.pid).children(recursive=True)
    run.send_signal(signal.SIGTERM)
    run.communicate(timeout=300)
    assert run.returncode == -signal.SIGTERM  # by itself, after it had closed everything
    (claim,) = simulation.output.glob("lock/*.json")
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
