"""One real local Ray for all the tests of a process that need one."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import fsspec
import pytest
from hypothesis import settings

from benchmarks.object_store import ObjectStore, serving
from storyreel.cluster.config import ClusterConfig
from storyreel.cluster.ray_runtime import connected

# `make test` tries a hundred inputs of each kind, `make test-all` 100,000 in all.
settings.register_profile("thorough", max_examples=4000)

MAX_STARTS = 4


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    with ExitStack() as stack:
        _start_patiently(stack)
        yield


def _start_patiently(stack: ExitStack) -> None:
    """Ray gives itself 30 s to start, which is not always enough on a busy machine."""
    problems = []
    for _ in range(MAX_STARTS):
        try:
            stack.enter_context(connected(ClusterConfig(num_cpus=4)))
        except ConnectionError as error:
            problems.append(error)
        else:
            return
    raise ExceptionGroup("no local Ray", problems)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """An S3 of its own, which `s3://films` is in."""
    fsspec.filesystem("s3").clear_instance_cache()
    with serving() as (store, environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield store


@pytest.fixture(scope="session")
def short_folder() -> Iterator[Path]:
    """A folder with a short path: names of sockets below it may have 107 bytes in all."""
    with tempfile.TemporaryDirectory(prefix="c", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
