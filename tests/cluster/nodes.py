"""Nodes of a real Ray cluster, each with its own address of the loopback, and a token."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
MAX_STARTS = 5
RAY = Path(sys.executable).with_name("ray")


def wait_until(condition: Callable[[], Any], *, seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.1)
    return value


@dataclass
class Cluster:
    """Nodes that are started and killed; each is a tree of processes."""

    folder: Path
    port: int
    nodes: list[psutil.Process] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.2:{self.port}"

    def environment(self, token: str | None = "a" * 64) -> dict[str, str]:
        """A home of its own, with this token in it or without one."""
        home = self.folder / (token or "none")[:4]
        (home / ".ray").mkdir(parents=True, exist_ok=True)
        if token is not None:
            (home / ".ray" / "auth_token").write_text(token)
        names = {"RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}
        environment = {name: value for name, value in os.environ.items() if name not in names}
        return environment | {
            "HOME": str(home),
            "RAY_AUTH_MODE": "token",
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONPATH": str(ROOT),
        }

    def start_node(self, *, num_cpus: int = 1) -> psutil.Process:
        """Start the head, then nodes that join it.

        One after the other: on one machine they share a folder, and number their files in it.
        """
        number = len(self.nodes)
        role = ["--address", self.address]
        if number == 0:
            temporary = ["--temp-dir", str(self.folder / "ray")]
            role = ["--head", "--port", str(self.port), "--include-dashboard", "false", *temporary]
        ports = ["--min-worker-port", "0", "--max-worker-port", "0"]
        # A node waits for 15 s until its agents have told the ports that they chose themselves.
        for agent in (
            "metrics-export",
            "dashboard-agent-grpc",
            "dashboard-agent-listen",
            "runtime-env-agent",
        ):
            ports += [f"--{agent}-port", str(free_port())]
        size = ["--num-cpus", str(num_cpus), "--object-store-memory", str(80 * 2**20)]
        own_address = ["--node-ip-address", f"127.0.0.{number + 2}"]
        command = [str(RAY), "start", "--block", *role, *own_address, *ports, *size]
        self.nodes.append(self._start_patiently(command, self.folder / f"node{number}.log"))
        return self.nodes[-1]

    def _start_patiently(self, command: list[str], said: Path) -> psutil.Process:
        """Ray gives a node 30 s to come up, which is not always enough on a busy machine."""
        for _ in range(MAX_STARTS):
            with said.open("wb") as log:
                process = psutil.Popen(command, env=self.environment(), stdout=log, stderr=log)
            over = partial(_is_up_or_gone, process, said)
            if wait_until(over, seconds=300) == "up":
                return process
            kill(process)
        raise AssertionError(said.read_text())

    def run(self, code: str, *arguments: str, token: str | None = "a" * 64) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env=self.environment(token),
            text=True,
            capture_output=True,
            timeout=240,
            check=False,
        )
        return done.stdout + done.stderr


def free_port(host: str = "127.0.0.1") -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def _is_up_or_gone(process: psutil.Popen, said: Path) -> str | None:
    if "Ray runtime started" in said.read_text():
        return "up"
    return None if process.poll() is None else "gone"


def kill(node: psutil.Process) -> None:
    """Take a whole node away at once."""
    if node.is_running():
        for process in [*node.children(recursive=True), node]:
            process.send_signal(signal.SIGKILL)
