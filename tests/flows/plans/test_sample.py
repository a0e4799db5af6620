"""A sample, and the question about the rest at a real terminal."""

import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from storyreel.flows.job.control import Approval, read_control
from storyreel.stages.output.storage import Output
from tests.flows.conftest import ROOT, Command


@pytest.fixture(scope="module")
def sampled(command: Command, stories: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a job whose sample was rendered where nobody could be asked."""
    output = tmp_path_factory.mktemp("sampled") / "job"
    done = command.run(*command.render(stories, output, "--sample", "2"))
    assert done.returncode == 0, done.stderr
    assert f"storyreel approve {output}" in done.stdout
    return output


@pytest.mark.slow
def test_a_sample_that_is_too_small_for_a_plan_waits_without_one(
    command: Command, stories: Path, tmp_path: Path
) -> None:
    output = tmp_path / "job"
    done = command.run(*command.render(stories, output, "--sample", "1"))
    assert done.returncode == 0, done.stderr
    assert "there is no plan: fewer than 2 units of prompts, keyframes, films" in done.stdout
    assert f"storyreel approve {output}" in done.stdout


@pytest.mark.slow
def test_a_yes_at_the_terminal_renders_the_rest_of_a_job_whose_sample_is_there(
    command: Command, stories: Path, sampled: Path
) -> None:
    assert len(list((sampled / "films").glob("*.mp4"))) == 2
    returned, shown = answer(command, "y", *command.render(stories, sampled, "--sample", "2"))
    assert "Render the rest?" in shown
    assert returned == 0, shown
    assert read_control(Output(str(sampled))).approval is Approval.APPROVED
    assert len(list((sampled / "films").glob("*.mp4"))) == 3


def answer(command: Command, line: str, *arguments: str) -> tuple[int, str]:
    """Type a line at the terminal of a command; its exit code, and what it showed."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "storyreel", *arguments],
        env=command.environment | {"TERM": "xterm"},
        cwd=ROOT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    os.write(ours, f"{line}\n".encode())
    shown = b""
    with suppress(OSError):  # so ends what a terminal has to say, once its last process is gone
        while block := os.read(ours, 1 << 16):
            shown += block
    os.close(ours)
    return process.wait(timeout=60), shown.decode()
