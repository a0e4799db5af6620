"""`storyreel serve`: what a team needs on one machine, in one command.

It runs Prefect's server with its UI, a worker on the work pool, and the gallery, starts again what
dies, and looks after the runs: those whose process is gone are marked, and those whose sample was
answered by a command are resumed. It ends with everything it started.
"""

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import uvicorn
from prefect.client.schemas.objects import State
from prefect.exceptions import PrefectException
from prefect.states import Scheduled
from rich.console import Console

from storyreel.flows.night.approval import resume_answered
from storyreel.flows.night.automations import watch_heartbeats
from storyreel.flows.night.deployment import deploy
from storyreel.flows.run.crashed import disown_flow_run, mark_crashed_runs, read_interrupted_runs
from storyreel.flows.run.prefect_server import wait_until_healthy
from storyreel.flows.server.server_client import connected_to
from storyreel.flows.server.server_config import ENVIRONMENT, ServerConfig, make_private
from storyreel.flows.server.tether import Tethered
from storyreel.flows.views.gallery import gallery_app
from storyreel.stages.output.patience import wait_at_most

LOOK_S = 1.0
"""Time between two looks at the children, seconds."""

RESTART_S = 5.0
"""Time before a child that died is started again, seconds."""

HOUSEKEEPING_S = 20.0
"""Time between two looks at the runs, seconds."""

STORAGE_PATIENCE_S = 10.0
"""How long a look at a run waits for its storage: the others and the children wait with it."""

CLIENT_RETRIES = 9
"""Retries of a flow's requests, after 2, 4 ... 512 s: a server may be away for a while."""

RECORDER_BATCH = 200
"""Task runs that the server records at once; one by one it falls behind at thousands of them."""


def serve(config: ServerConfig, console: Console) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        config: where to listen, keep data, and may write.
        console: receives the addresses.

    Raises:
        ValueError: the password file cannot be used.
        ConnectionError: a port is taken, or the server does not start.
    """
    wait_at_most(STORAGE_PATIENCE_S)
    auth_string = config.make_password()
    for port in (config.port, config.gallery_port):
        _check_free(config.host, port)
    environment = _environment(config, auth_string)
    stop = threading.Event()
    with _stopping_on_signals(stop), ExitStack() as stack:
        server = stack.enter_context(_Kept(_server_command(), environment))
        wait_until_healthy(lambda: server.is_running and not stop.is_set(), config.api_url)
        with connected_to(config) as client:
            deploy(client)
            watch_heartbeats()
            mark_crashed_runs()
        stack.enter_context(_gallery(config))
        worker = stack.enter_context(_worker(config, environment))
        _greet(config, auth_string, console)
        _look_after(config, [server, worker], stop, console)
        console.print("storyreel: stopping", highlight=False)


def _environment(config: ServerConfig, auth_string: str) -> dict[str, str]:
    """The environment of the server and of the worker, which hands it to its flow runs."""
    home = config.home.expanduser().resolve()
    database = home / "prefect.db"
    make_private(database)
    sqlite = f"sqlite+aiosqlite:///{database}"
    batch = str(RECORDER_BATCH)
    return os.environ | {
        "PREFECT_API_URL": config.api_url,
        "PREFECT_API_DATABASE_CONNECTION_URL": config.database_url or sqlite,
        "PREFECT_CLIENT_MAX_RETRIES": str(CLIENT_RETRIES),
        "PREFECT_API_AUTH_STRING": auth_string,
        "PREFECT_SERVER_API_AUTH_STRING": auth_string,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": config.ui_url,
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": batch,
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": batch,
        # Relative: whatever name a browser reaches the UI by, the API is beside it.
        "PREFECT_SERVER_UI_API_URL": "/api",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "ui"),
        "PREFECT_SERVER_UI_V2_ENABLED": "false",  # links of runs and artifacts lead to the other
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        ENVIRONMENT: str(_write_config(config, home)),
    }


def _write_config(config: ServerConfig, home: Path) -> Path:
    """The file that tells flow runs where jobs may write: they stand in folders of their own."""
    absolute = config.model_copy(update={"outputs": tuple(config.roots().values())})
    values = absolute.model_dump(mode="json", exclude_none=True)
    # These values are written alike in JSON and in TOML.
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    path = home / "serving.toml"
    text = "\n".join(["# Written by `storyreel serve`.", "[server]", *lines, ""])
    make_private(path)
    path.write_text(text, encoding="utf-8")
    return path


def _server_command() -> list[str]:
    return [sys.executable, "-P", "-m", "storyreel.flows.server.api_server"]


def _worker_command() -> list[str]:
    name = f"{socket.gethostname()} {os.getpid()}"
    return [sys.executable, "-P", "-m", "storyreel.flows.night.worker", name]


@contextmanager
def _worker(config: ServerConfig, environment: Mapping[str, str]) -> Iterator["_Kept"]:
    """The worker; the runs that it is stopped with are queued again for the next start."""
    worker = _Kept(_worker_command(), environment)
    stopped = datetime.now(UTC)
    try:
        with worker:
            yield worker
            stopped = datetime.now(UTC)
    finally:
        _put_back_interrupted_runs(config, stopped)


class _Kept:
    """A command that is started again when it ends by itself."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command = command
        self._environment = environment
        self._process = Tethered(command, environment)
        self._ended: float | None = None

    @property
    def is_running(self) -> bool:
        return self._process.is_running

    def keep(self, console: Console) -> None:
        """Start the command again a while after it ended."""
        if self.is_running:
            return
        now = time.monotonic()
        self._ended = self._ended or now
        if now - self._ended >= RESTART_S:
            console.print(f"{self._command[3]} ended; it is started again")
            self._process = Tethered(self._command, self._environment)
            self._ended = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.stop()


def _look_after(
    config: ServerConfig, children: Sequence[_Kept], stop: threading.Event, console: Console
) -> None:
    kept_house = time.monotonic()
    while not stop.wait(LOOK_S):
        for child in children:
            child.keep(console)
        if time.monotonic() - kept_house >= HOUSEKEEPING_S:
            _keep_house(config, console)
            kept_house = time.monotonic()


def _keep_house(config: ServerConfig, console: Console) -> None:
    """Look after the runs; what cannot be done now, the next look does."""
    try:
        with connected_to(config) as client:
            mark_crashed_runs()
            problems = resume_answered(client)
    except (ConnectionError, httpx.HTTPError, PrefectException) as error:
        problems = [str(error)]
    for problem in problems:
        told = f"runs could not be looked after: {problem}"
        console.print(told, markup=False, soft_wrap=True)


def _put_back_interrupted_runs(config: ServerConfig, since: datetime) -> None:
    with connected_to(config) as client:
        for run in read_interrupted_runs(client, since):
            state: State[None] = Scheduled(
                message="The server was stopped; the job continues when it is started again."
            )
            disown_flow_run(client, run.id)
            client.set_flow_run_state(run.id, state, force=True)


@contextmanager
def _gallery(config: ServerConfig) -> Iterator[None]:
    """The gallery, in a thread."""
    for root in config.roots().values():
        if "://" not in root:
            Path(root).mkdir(parents=True, exist_ok=True)
    settings = uvicorn.Config(
        gallery_app(config), host=config.host, port=config.gallery_port, log_level="error"
    )
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run, name="gallery", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=10)


@contextmanager
def _stopping_on_signals(stop: threading.Event) -> Iterator[None]:
    def ask_to_stop(*_: object) -> None:
        stop.set()

    before = {s: signal.signal(s, ask_to_stop) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check_free(host: str, port: int) -> None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise ConnectionError(f"cannot listen on {host}, port {port}: {error}") from error


def _greet(config: ServerConfig, auth_string: str, console: Console) -> None:
    outputs = ", ".join(config.roots().values())
    for line in (
        f"Prefect UI  {config.ui_url}",
        f"gallery     {config.gallery_url}",
        f"password    {auth_string} (user:password, kept in {config.password_file})",
        f"outputs     below {outputs}",
        "submit a job with: storyreel submit INPUT --output URL; stop with Ctrl-C",
    ):
        console.print(line, highlight=False, soft_wrap=True)
