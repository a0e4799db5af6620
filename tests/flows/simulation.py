"""A job of simulated stages as a process of its own, under the real flow."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from storyreel.flows.commands.cli import app
from storyreel.stages.output.manifests import read_manifests
from storyreel.stages.output.records import Clip, Failure, Film
from storyreel.stages.output.storage import Output
from tests.flows.conftest import ROOT
from tests.records import commit_records

NUM_STORIES = 6


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
            "PREFECT_CLIENT_MAX_RETRIES": "1",
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

    def commits(self) -> dict[str, str]:
        """The commit records, by their paths."""
        return commit_records(self.output)

    def num_clips(self) -> int:
        return len(commit_records(self.output, "motion"))

    def check_complete(self) -> None:
        """Every story has its film, from clips that were rendered once, at the first attempt."""
        output = Output(str(self.output))
        films = [film.story_id for film in read_manifests(output, "films", Film)]
        assert sorted(films) == [f"s{index:06d}" for index in range(NUM_STORIES)]
        assert not list(read_manifests(output, "failures", Failure))
        assert all(json.loads(commit)["attempts"] == 1 for commit in self.commits().values())
        clips = list(read_manifests(output, "clips", Clip))
        assert len(clips) == self.num_clips()


def end_of(process: subprocess.Popen[str]) -> str:
    stdout, stderr = process.communicate(timeout=400)
    assert process.returncode == 0, stderr
    return stdout.strip().splitlines()[-1]
