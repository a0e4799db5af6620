"""A tiny real family of models and the `storyreel` command as its users run it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL

from storyreel.flows.run.prefect_server import prefect_api
from tests.cluster.nodes import Cluster, free_port
from tests.cluster.nodes import kill as kill_node
from tests.stages.tiny import save_tiny_family

ROOT = Path(__file__).resolve().parents[2]

RAY_TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 64}
"""What the cluster that tests share accepts."""

CONFIG = """
[prompts]
reading_speed = 0  # no beats that only readers need
[keyframes]
width = 32
height = 32
num_inference_steps = 2
[keyframes.model]
path = "{family}"
[motion]
num_frames = 6
num_inference_steps = 2
[motion.model]
path = "{family}"
[films]
width = 64
height = 64
[execution]
shard_size = 2
[pools.render]
num_actors = 1
num_cpus = 0.5
[pools.assembly]
num_actors = 1
num_cpus = 0.5
"""

STORIES = [
    {"story_id": "fox", "text": "A fox walks in the park. The fox runs to the beach. It sleeps."},
    {
        "story_id": "zoë"[:2] + "e",
        "panels": ["[Zoë] reads # Zoë liest", "[NC] the empty beach", "[Zoë] waves"],
        "characters": [{"name": "Zoë", "description": "a girl"}],
        "seed": 7,
    },
    {
        "story_id": "bear",
        "panels": [
            {"text": "a bear sits", "shot": "cut"},
            {"text": "a bear jumps", "shot": "dissolve"},
            {"text": "a bear runs", "shot": "hold"},
            "a bear sleeps",
            "a bear dances",
        ],
    },
]


PREFECT_STATES = """
import json
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

with get_client(sync_client=True) as client:
    runs = [run for run in client.read_flow_runs() if run.name.startswith({job!r})]
    of_runs = FlowRunFilter(id=FlowRunFilterId(any_=[run.id for run in runs]))
    tasks = client.read_task_runs(flow_run_filter=of_runs)
print(json.dumps([run.state_name for run in runs + tasks]))
"""


@dataclass(frozen=True)
class Command:
    """The `storyreel` command in a process of its own, with a Prefect database of its own."""

    config: Path
    prefect_home: Path
    prefect_url: str = ""
    """A server that is up already; without it each command starts one, which takes ten seconds."""
    ray_address: str = ""
    """A Ray cluster to render on; without it each command starts one, which takes eight seconds."""

    @property
    def environment(self) -> dict[str, str]:
        server = {"PREFECT_API_URL": self.prefect_url} if self.prefect_url else {}
        return {
            **server,
            **os.environ,
            **(RAY_TOKEN if self.ray_address else {}),
            "PREFECT_HOME": str(self.prefect_home),
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "200",
        }

    @contextmanager
    def started(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """The command while it runs; killed at the end, also by a test that fails."""
        with subprocess.Popen(
            [sys.executable, "-m", "storyreel", *arguments],
            env=self.environment,
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        with self.started(*arguments) as process:
            stdout, stderr = process.communicate(timeout=240)
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)

    def prefect_states(self, job: str) -> list[str]:
        """The states of the flow runs and of the task runs of jobs whose name starts so."""
        code = PREFECT_STATES.format(job=job)
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        states: list[str] = json.loads(done.stdout.splitlines()[-1])
        return states

    def render(self, stories: Path, output: Path, *options: str) -> list[str]:
        """The arguments of a render with the tiny models."""
        config = ["--config", str(self.config)]
        if self.ray_address:
            config += ["--set", f"cluster.address={self.ray_address}"]
        return ["render", str(stories), "--output", str(output), *config, *options]


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    family = save_tiny_family(folder / "family")
    path = folder / "tiny.toml"
    path.write_text(CONFIG.format(family=family))
    return path


@pytest.fixture(scope="session")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("input") / "stories.jsonl"
    path.write_text("\n".join(json.dumps(story) for story in STORIES), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def command(
    tiny_config: Path, prefect_url: str, ray_address: str, tmp_path_factory: pytest.TempPathFactory
) -> Command:
    return Command(
        config=tiny_config,
        prefect_home=tmp_path_factory.mktemp("prefect"),
        prefect_url=prefect_url,
        ray_address=ray_address,
    )


@pytest.fixture(scope="session")
def shared_config(tiny_config: Path, ray_address: str) -> Path:
    """The tiny models, rendered on the cluster that the tests share."""
    path = tiny_config.with_name("shared.toml")
    path.write_text(f'{tiny_config.read_text()}\n[cluster]\naddress = "{ray_address}"\n')
    return path


@pytest.fixture(scope="session")
def rendered(command: Command, stories: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of an undisturbed job; tests only look at it."""
    output = tmp_path_factory.mktemp("undisturbed") / "job"
    done = command.run(*command.render(stories, output))
    assert done.returncode == 0, done.stderr
    return output


def wait_until(condition: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    """What `condition` gives once it is true; fails if the process ends before."""
    deadline = time.monotonic() + 300
    while not (found := condition()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "waited for 300 s"
        time.sleep(0.01)
    return found


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def ray_address(short_folder: Path) -> Iterator[str]:
    """A Ray cluster that the commands of a process share."""
    (folder := short_folder / "s").mkdir()
    cluster = Cluster(folder=folder, port=free_port("127.0.0.2"))
    node = cluster.start_node(num_cpus=8)
    try:
        yield cluster.address
    finally:
        kill_node(node)


@pytest.fixture(scope="session")
def prefect_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prefect server that all the jobs of a process report to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect")))
        with prefect_api():
            yield str(PREFECT_API_URL.value())
