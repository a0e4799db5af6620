"""A `storyreel serve` of the tests' own, and Prefect's API and UI behind it."""

import base64
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from storyreel.flows.server.server_config import ENVIRONMENT, load_server_config
from tests.cluster.nodes import free_port
from tests.flows.browser import Page
from tests.flows.conftest import RAY_TOKEN, ROOT

PATIENCE_S = 240.0
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}

TOML = """
[server]
port = {port}
gallery_port = {gallery_port}
home = "home"
outputs = ["films"]
"""


@dataclass(frozen=True)
class Server:
    """A running server below `folder`."""

    folder: Path
    port: int
    process: subprocess.Popen[str]

    @property
    def toml(self) -> Path:
        return self.folder / "server.toml"

    @property
    def films(self) -> Path:
        return self.folder / "films"

    @property
    def auth(self) -> tuple[str, str]:
        """User and password."""
        user, _, password = str(load_server_config(self.toml).auth_string()).partition(":")
        return user, password

    def api(self, method: str, path: str, /, **content: Any) -> Any:
        url = f"http://127.0.0.1:{self.port}/api{path}"
        body = None if method == "GET" else content
        answer = httpx.request(method, url, json=body, auth=self.auth, timeout=60, trust_env=False)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def storyreel(self, *arguments: str) -> str:
        """What a command says."""
        done = subprocess.run(
            [sys.executable, "-m", "storyreel", *arguments],
            check=False,
            env=environment(self.folder) | {ENVIRONMENT: str(self.toml)},
            cwd=ROOT,
            text=True,
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def submit(self, stories: Path, output: str, config: Path, *options: str) -> str:
        """Submit a job; the id of its flow run."""
        places = [str(stories), "--output", str(self.films / output), "--config", str(config)]
        said = self.storyreel("submit", *places, *options)
        match = re.search(r"/runs/flow-run/(\S+)", said)
        assert match, said
        return match[1]

    def flow_run(self, run_id: str) -> dict[str, Any]:
        return dict(self.api("GET", f"/flow_runs/{run_id}"))

    def wait_for(self, condition: Callable[[], Any]) -> Any:
        """What `condition` gives once it is true; while the server is away it is not."""
        deadline = time.monotonic() + PATIENCE_S
        while not (value := self._ask(condition)):
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline, self.api("POST", "/flow_runs/filter")
            time.sleep(0.5)
        return value

    def _ask(self, condition: Callable[[], Any]) -> Any:
        with suppress(httpx.TransportError):
            return condition()
        return None

    def wait_until_final(self, run_id: str) -> dict[str, Any]:
        """A flow run once it is over."""
        self.wait_for(lambda: self.flow_run(run_id)["state_type"] in FINAL)
        return self.flow_run(run_id)

    def children(self, run_id: str) -> list[dict[str, Any]]:
        """The flow runs that a flow run started, in their order."""
        of_run = {"flow_runs": {"parent_flow_run_id": {"any_": [run_id]}}}
        return list(self.api("POST", "/flow_runs/filter", **of_run, sort="START_TIME_ASC"))

    def task_runs(self, run_id: str) -> list[dict[str, Any]]:
        of_run = {"flow_runs": {"id": {"any_": [run_id]}}}
        return list(self.api("POST", "/task_runs/filter", **of_run))

    def artifacts(self, run_id: str) -> dict[str, dict[str, Any]]:
        """The artifacts of a flow run, by the last word of their keys."""
        of_run = {"artifacts": {"flow_run_id": {"any_": [run_id]}}}
        found = self.api("POST", "/artifacts/filter", **of_run)
        return {a["key"].rsplit("-", 1)[-1]: a for a in found if a["key"]}


def log_in(page: Page, server: Server) -> None:
    """Give the UI the password, as its form does."""
    page.open(f"http://127.0.0.1:{server.port}/")
    page.wait_for("document.readyState === 'complete'")
    secret = base64.b64encode(":".join(server.auth).encode()).decode()
    page.evaluate(f"localStorage.setItem('prefect-password', {secret!r})")


def environment(folder: Path) -> dict[str, str]:
    return (
        os.environ
        | RAY_TOKEN
        | {
            "PREFECT_HOME": str(folder / "prefect"),
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "200",
        }
    )


@contextmanager
def serving(folder: Path, more: str = "") -> Iterator[Server]:
    """`storyreel serve`, with its data in `folder`; stopped in the end as a service manager does.

    Started again in the same folder it finds its configuration there.
    """
    toml = folder / "server.toml"
    if not toml.exists():
        toml.write_text(TOML.format(port=free_port(), gallery_port=free_port()) + more)
    process = subprocess.Popen(
        [sys.executable, "-m", "storyreel", "serve", "--server", str(toml)],
        env=environment(folder),
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        _wait_until_it_serves(process)
        yield Server(folder=folder, port=load_server_config(toml).port, process=process)
    finally:
        stop(process)


def stop(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Ask a server to stop; what is left of its processes."""
    if process.poll() is not None:
        return []
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE_S)
    return psutil.wait_procs(family, timeout=5)[1]


def _wait_until_it_serves(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if "submit a job with" in line:
            return
    raise AssertionError("".join(said))
