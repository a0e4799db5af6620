"""Prefect's API for one command: the configured server, else a local one that ends with it.

Prefect would start a temporary server by itself, but that one outlives a command that is killed.
Ours holds the other end of a pipe to the command, and ends when the pipe does.
"""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import httpx
import uvicorn
from filelock import FileLock
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.server.api.server import create_app
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

START_TIMEOUT_S = 300.0
DRAIN_TIMEOUT_S = 10.0


@contextmanager
def prefect_api() -> Iterator[None]:
    """A Prefect API for the time of the context.

    Raises:
        ConnectionError: a server of our own does not start.
    """
    if PREFECT_API_URL.value():
        with _drained():
            yield
        return
    with _local_server() as url, temporary_settings({PREFECT_API_URL: url}), _drained():
        yield


@contextmanager
def _drained() -> Iterator[None]:
    """Send at the end the logs and events that are on their way, as far as the server takes them.

    Prefect would try to send each of them when the interpreter exits, for about ten seconds: after
    a night without a server the process would not end for hours.
    """
    try:
        yield
    finally:
        for kind in (APILogWorker, EventsWorker):
            services: list[Any] = list(kind._instances.values())  # type: ignore[misc]
            _, unsent = kind.drain_all(timeout=DRAIN_TIMEOUT_S)  # type: ignore[misc]
            for service in services if unsent else []:
                _discard(service._queue)


def _discard(items: "Queue[Any]") -> None:
    with suppress(Empty):
        while True:
            items.get_nowait()
    items.put(None)  # ends the service


@contextmanager
def _local_server() -> Iterator[str]:
    with ExitStack() as stack:
        # One after the other: the first start in a folder lays its database out, which two at a
        # time fail to do.
        with _alone_in(PREFECT_HOME.value()):
            url = stack.enter_context(_started_server())
        yield url


@contextmanager
def _alone_in(home: Path) -> Iterator[None]:
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = FileLock(home / "storyreel.lock", timeout=START_TIMEOUT_S)
        lock.acquire()
    except OSError as error:  # a timeout too
        raise ConnectionError(
            f"Prefect's folder {home}: {error}; set PREFECT_HOME to a folder that can be written"
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _started_server() -> Iterator[str]:
    port = _free_port()
    url = f"http://127.0.0.1:{port}/api"
    process = subprocess.Popen(  # noqa: S603, our own module
        [sys.executable, "-P", "-m", "storyreel.flows.run.prefect_server", str(port)],
        stdin=subprocess.PIPE,
    )
    try:
        wait_until_healthy(lambda: process.poll() is None, url)
        yield url
    finally:
        process.communicate()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_healthy(is_running: Callable[[], bool], url: str) -> None:
    """Wait for a server that was started just now.

    Raises:
        ConnectionError: it ended, or does not answer.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    # One client: a new one reads all certificates each time, which keeps a busy machine busy.
    with httpx.Client(trust_env=False) as client:
        while is_running() and time.monotonic() < deadline:
            try:
                if client.get(f"{url}/health").is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
    raise ConnectionError(f"Prefect's server at {url} did not start")


def _serve(port: int) -> None:
    """Serve until standard input ends."""
    config = uvicorn.Config(
        create_app(ephemeral=True, final=True), host="127.0.0.1", port=port, log_level="error"
    )
    server = uvicorn.Server(config)

    def stop_with_the_command() -> None:
        sys.stdin.buffer.read()
        server.should_exit = True
        time.sleep(5)
        os._exit(0)  # a request that never ends must not keep the server

    threading.Thread(target=stop_with_the_command, daemon=True).start()
    server.run()


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
