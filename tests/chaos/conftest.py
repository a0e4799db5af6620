"""What the cells share: a Prefect server, Ray nodes, a starter of flows, an undisturbed job."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.chaos.scene import (
    NUM_CPUS,
    NUM_STORIES,
    SHARED,
    Scene,
    Starter,
    wait_until,
    write_stories,
)
from tests.chaos.starter import MARK
from tests.cluster.nodes import Cluster, free_port, kill


def is_open(host: str, port: int) -> bool:
    """Whether something listens there."""
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


@dataclass
class PrefectServer:
    """A real server in a process of its own, with a database that outlives it."""

    starter: Starter
    folder: Path
    port: int
    process: psutil.Process | None = None

    def start(self) -> None:
        self.process = self.starter.start("serve", self.folder, SHARED, port=self.port)
        wait_until(lambda: is_open("127.0.0.1", self.port), "Prefect's server")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        wait_until(lambda: not is_open("127.0.0.1", self.port), "the end of Prefect's server")


@pytest.fixture(scope="session")
def cluster(short_folder: Path) -> Iterator[Cluster]:
    """A Ray node that takes the units of all scenes; tests may add others."""
    cluster = Cluster(folder=short_folder, port=free_port("127.0.0.2"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MARK, SHARED)
        try:
            cluster.start_node(num_cpus=NUM_CPUS)
            yield cluster
        finally:
            for node in reversed(cluster.nodes):
                kill(node)


@pytest.fixture(scope="session")
def starter(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    """Starts flows that use `cluster` and `prefect_server`."""
    port = free_port()
    environment = {
        "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect")),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_CLIENT_MAX_RETRIES": "1",
        "RAY_AUTH_TOKEN_PATH": str(Path(cluster.environment()["HOME"], ".ray", "auth_token")),
    }
    starter = Starter(environment, prefect_port=port, ray_address=cluster.address)
    yield starter
    starter.close()


@pytest.fixture(scope="session")
def prefect_server(
    starter: Starter, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PrefectServer]:
    server = PrefectServer(starter, tmp_path_factory.mktemp("server"), starter.prefect_port)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stories(tmp_path_factory.mktemp("input") / "stories.jsonl", NUM_STORIES)


@pytest.fixture(scope="session")
def undisturbed(
    starter: Starter,
    prefect_server: PrefectServer,
    stories: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Scene]:
    """A job that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    scene = Scene(starter=starter, folder=folder, stories=stories, output=folder / "job")
    scene.run()
    scene.check(scene)
    yield scene
    scene.end()


@pytest.fixture
def scene(starter: Starter, stories: Path, tmp_path: Path) -> Iterator[Scene]:
    """A job to do something to."""
    scene = Scene(starter=starter, folder=tmp_path, stories=stories, output=tmp_path / "job")
    yield scene
    scene.end()
