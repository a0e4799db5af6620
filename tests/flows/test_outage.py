"""The Prefect server is a view: the render goes on without it, and the view is right afterwards."""

import json
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.flows.conftest import STORIES
from tests.flows.server import Server, serving

pytestmark = pytest.mark.timeout(900)

OUTAGE_S = 60.0


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
        units = server.films / "job" / "units"
        server.wait_for(lambda: list(units.glob("keyframes/*/*.done.json")))
        before = len(list(units.glob("*/*/*.done.json")))
        _keep_killing(server, time.monotonic() + OUTAGE_S)
        assert len(list(units.glob("*/*/*.done.json"))) > before

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
                if "server" in command and "storyreel.flows.night.tether" not in command:
                    process.kill()
                    killed += 1
        time.sleep(0.5)
    assert killed
