"""Machines that are set up unusually: a proxy, a HOME that cannot be written, a long TMPDIR."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.conftest import ROOT

COMMAND = [sys.executable, "-m", "storyreel", "render"]


@pytest.fixture
def story(tmp_path: Path) -> Path:
    path = tmp_path / "stories.jsonl"
    path.write_text(json.dumps({"story_id": "fox", "panels": ["a fox runs", "a fox sleeps"]}))
    return path


@pytest.fixture
def dead_proxy() -> Iterator[str]:
    """A proxy that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def render(
    config: Path, story: Path, folder: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A render without a Prefect server that is up already."""
    without = {name: value for name, value in os.environ.items() if "PROXY" not in name.upper()}
    return subprocess.run(
        [*COMMAND, str(story), "--output", str(folder / "job"), "--config", str(config)],
        env={
            **without,
            "PYTHONPATH": str(ROOT),
            "PREFECT_HOME": str(folder / "prefect"),
            "COLUMNS": "200",
            **environment,
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.slow
def test_a_proxy_is_not_asked_for_our_own_servers(
    tiny_config: Path, story: Path, tmp_path: Path, dead_proxy: str
) -> None:
    proxies = dict.fromkeys(["http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"], dead_proxy)
    done = render(tiny_config, story, tmp_path, **proxies)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "job/films/fox.mp4").is_file()
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_long_temporary_folder_is_no_hindrance(
    tiny_config: Path, story: Path, tmp_path: Path, short_folder: Path
) -> None:
    folder = short_folder / ("t" * (82 - len(str(short_folder)) - 1))
    folder.mkdir()
    done = render(tiny_config, story, tmp_path, TMPDIR=str(folder))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "job/films/fox.mp4").is_file()


@pytest.mark.slow
def test_a_home_that_cannot_be_written_is_no_hindrance(
    tiny_config: Path, story: Path, tmp_path: Path
) -> None:
    # Below a file not even root can create a folder.
    done = render(tiny_config, story, tmp_path, HOME=str(story / "home"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "job/films/fox.mp4").is_file()


def test_a_home_that_cannot_be_written_is_one_line_where_prefect_needs_it(
    tiny_config: Path, story: Path, tmp_path: Path
) -> None:
    home = story / "home"
    done = render(tiny_config, story, tmp_path, HOME=str(home), PREFECT_HOME=str(home / "prefect"))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]  # Prefect warns before
    assert "set PREFECT_HOME to a folder that can be written" in last
