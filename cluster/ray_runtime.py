"""Connecting to Ray: a local one for the time of a command, or a named cluster, never by chance."""

import logging
import os
import secrets
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import ray

from storyreel.cluster.config import ClusterConfig
from storyreel.cluster.nodes import LOCAL

CONNECT_TIMEOUT_S = 10.0

LOCAL_SYSTEM = {
    "prestart_worker_first_driver": False,  # no pool could use those workers
    "kill_worker_timeout_milliseconds": 1000,  # a stopped one must not keep its GPU for 5 s
}

MAX_TEMP_BYTES = 36
"""Longest path of a temporary folder in which Ray can create its sockets."""

RAY_FOLDER = "/tmp/ray"  # noqa: S108, Ray's own default, with its access rights
"""Folder of Ray's sessions where the temporary folder has a longer path."""

logger = logging.getLogger(__name__)


@contextmanager
def connected(config: ClusterConfig) -> Iterator[None]:
    """Connect to Ray for the time of the context; a local Ray is stopped at its end.

    If this process is connected already, as in a notebook, that connection is used and stays.

    Raises:
        ConnectionError: the configured cluster cannot be reached, or does not accept our token, or
            this process is connected to another one, or a local Ray does not start.
    """
    if ray.is_initialized() and config.address in (None, ray.get_runtime_context().gcs_address):
        yield
        return
    with _own_sigterm():
        if config.address is None:
            _start_local(config)
        else:
            _connect(config.address)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep the process's own way to end: with Ray's, a SIGTERM aborts it and nothing is closed."""
    own = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, own)


def _start_local(config: ClusterConfig) -> None:
    _keep_token_private(create=True)
    try:
        ray.init(
            address="local",  # without it Ray would follow RAY_ADDRESS or a cluster it finds
            num_cpus=config.num_cpus,
            object_store_memory=config.object_store_mb * 2**20,
            labels=LOCAL,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            _system_config=LOCAL_SYSTEM,
            _temp_dir=_folder_of_sockets(),
        )
    except Exception as error:  # Ray has no class of its own for a start that took too long
        raise ConnectionError(
            f"a local Ray did not start: {error}; is the machine too busy? the same command tries"
            " again"
        ) from error
    _silence_raylet()
    logger.info("started a local Ray")


def _folder_of_sockets() -> str | None:
    """Where Ray puts the files of a session; `None` for the place that it chooses itself.

    Names of sockets have at most 107 bytes, of which Ray's own parts take 71.
    """
    chosen = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    return None if len(os.fsencode(chosen)) <= MAX_TEMP_BYTES else RAY_FOLDER


def _connect(address: str) -> None:
    _keep_token_private(create=False)
    host, port = address.rsplit(":", 1)
    try:
        # Ray itself waits for more than a minute for an address where nothing listens.
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
        _silence_raylet()
    except (OSError, OverflowError, RuntimeError, ray.exceptions.RayError) as error:
        raise ConnectionError(
            f"cluster.address {address}: no Ray cluster can be used there: {error}; start one with"
            " `RAY_AUTH_MODE=token ray start --head`, give every machine the same token file, or"
            " leave the address out for a local Ray"
        ) from error
    logger.info("connected to the Ray cluster at %s", address)


def _silence_raylet() -> None:
    """Keep deaths of workers off stdout, which `log_to_driver` does not; the pool reports them."""
    ray._private.worker._worker_logs_enabled = False


def _keep_token_private(*, create: bool) -> None:
    """Ray would write a missing token readable for everyone on the machine."""
    if "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ:
        return
    path = Path.home() / ".ray" / "auth_token"
    try:
        if create and not path.exists():
            _create_token(path)
        if path.exists():
            path.chmod(0o600)
    except OSError:
        if not create:
            raise
        # A home that cannot be written; a local Ray needs the token for as long as this process.
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _create_token(path: Path) -> None:
    """Write a token whole or not at all; if another command is faster, its token stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".auth_token.{os.getpid()}")
    temporary.touch(mode=0o600)
    temporary.write_text(secrets.token_hex(32))
    with suppress(FileExistsError):
        path.hardlink_to(temporary)
    temporary.unlink()
