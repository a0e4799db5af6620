"""The Prefect server is a view: the render goes on without it, and the view is right afterwards."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from benchmarks import simulated
from storyreel.flows.run.prefect_server import wait_until_healthy
from tests.cluster.nodes import free_port
from tests.flows.conftest import ROOT, STORIES, wait_until
from tests.flows.server import Server, serving
from tests.flows.simulation import NUM_STORIES, Simulation, end_of
from tests.records import commit_records

pytestmark = pytest.mark.timeout(900)

OUTAGE_S = 60.0


def test_a_server_that_never_comes_back_costs_nothing_but_the_view(tmp_path: Path) -> None:
    """It had stopped the render after a minute, when its task runs asked for their slots."""
    (tmp_path / "config.toml").write_text(simulated.CONFIG)
    (tmp_path / "stories.jsonl").write_text("\n".join(simulated.make_rows(NUM_STORIES)))
    with prefect_server(tmp_path) as (server, url):
        simulation = Simulation(folder=tmp_path, prefect_url=url)
        # Shards open one after the other, so that task runs begin when the server is gone.
        run = simulation.start(
            "--speed=4", "--view-patience-s=1", "--set", "execution.open_shards=1",
            "--set", "execution.shard_size=2",
        )  # fmt: skip
        wait_until(simulation.num_clips, run)
        server.kill()
        assert end_of(run).startswith(f"COMPLETED|Completed|{NUM_STORIES} films")
    simulation.check_complete()


@contextmanager
def prefect_server(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A Prefect server of its own, and the URL of its API."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "storyreel.flows.run.prefect_server", str(port)],
        env={**os.environ, "PREFECT_HOME": str(folder / "prefect"), "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
    ) as server:
        try:
            wait_until_healthy(lambda: server.poll() is None, url)
            yield server, url
        finally:
            server.kill()


@pytest.mark.slow
def test_a_render_goes_on_while_the_server_is_killed_and_the_ui_is_right_again(
    tiny_config: Path, tmp_path: Path
) -> None:
    rows = [
        {**story, "story_id": f"{story['story_id']}-{i}"} for i in range(4) for story in STORIES
    ]
    stories = tmp_path / "stories.jsonl"
    stories.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with serving(tmp_path) as server:
        run = server.submit(stories, "job", tiny_config)
        output = server.films / "job"
        server.wait_for(lambda: commit_records(output, "keyframes"))
        before = len(commit_records(output))
        _keep_killing(server, time.monotonic() + OUTAGE_S)
        assert len(commit_records(output)) > before

        ended = server.wait_until_final(run)
        assert ended["state_type"] == "COMPLETED", ended["state"]
        films = list((server.films / "job" / "films").glob("*.mp4"))
        assert len(films) == len(rows)
        (render,) = server.children(run)
        shards = len(list((server.films / "job" / "manifests" / "films").iterdir()))
        runs = {run["name"]: run["state_type"] for run in server.task_runs(render["id"])}
        assert len(runs) == 4 * shards
        assert set(runs.values()) == {"COMPLETED"}
        shown = server.artifacts(render["id"])
        assert shown["films"]["description"].startswith(f"films: {len(rows)} of {len(rows)}")
        assert f"{len(rows)} films" in shown["summary"]["data"]


def _keep_killing(server: Server, deadline: float) -> None:
    """Kill Prefect's server whenever it is there; `storyreel serve` starts it again."""
    killed = 0
    while time.monotonic() < deadline:
        for process in psutil.Process(server.process.pid).children(recursive=True):
            with suppress(psutil.Error):  # it may end while we look at it
                command = process.cmdline()
                if "server" in command and "storyreel.flows.server.tether" not in command:
                    process.kill()
                    killed += 1
        time.sleep(0.5)
    assert killed
