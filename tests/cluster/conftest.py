"""One real local Ray for all the tests of pools."""

from collections.abc import Iterator

import pytest

from cluster.config import ClusterConfig
from cluster.ray_runtime import connected


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    with connected(ClusterConfig(num_cpus=4)):
        yield
