"""A real cluster: several Ray nodes, each with its own address of the loopback, and a token."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.nodes import Cluster, free_port, kill, wait_until

CONNECT = """
import sys
import ray
from storyreel.cluster.config import ClusterConfig
from storyreel.cluster.ray_runtime import connected

try:
    with connected(ClusterConfig(address=sys.argv[1])):
        print("connected to", len(ray.nodes()))
except ConnectionError as error:
    print("refused:", error)
print("still connected" if ray.is_initialized() else "no Ray is left")
"""

JOB = """
import json
import sys
from functools import partial
from pathlib import Path
from storyreel.cluster.config import ClusterConfig, PoolConfig
from storyreel.cluster.pool import Pool
from storyreel.cluster.ray_runtime import connected
from storyreel.cluster.work import Work
from storyreel.stages.output.commits import UnitId, read_commit
from storyreel.stages.output.manifests import Shard
from storyreel.stages.output.records import Failure, File
from storyreel.stages.output.storage import Output
from tests.cluster.toys import NodeStage, Order

address, url = sys.argv[1:]
stages = {"copies": partial(NodeStage, output_url=url)}
config = PoolConfig(num_actors=4, num_cpus=1, max_attempts=2)
units, futures = [], []
with connected(ClusterConfig(address=address)):
    with Pool(name="toys", stages=stages, output=Output(url), config=config, num_threads=1) as pool:
        while not (Path(url) / "enough").exists():
            for _ in range(8):
                name = f"story-{len(units):04d}"
                unit = UnitId(stage="copies", shard=Shard(index=0, count=1), story_id=name)
                units.append(unit)
                work = Work(unit=unit, argument=Order(text=name))
                futures.append(pool.submit(work, priority=(0,)))
            futures[-8].result(120)
        results = [future.result(120) for future in futures]
failed = [str(result) for result in results if isinstance(result, Failure)]
attempts = {u.name: read_commit(Output(url), u, File).attempts for u in units} if not failed else {}
print(json.dumps({"failed": failed, "attempts": attempts}))
"""

EARLY = """
import sys
from functools import partial
from pathlib import Path
from storyreel.cluster.config import ClusterConfig, PoolConfig
from storyreel.cluster.errors import PoolEndedError
from storyreel.cluster.pool import Pool
from storyreel.cluster.ray_runtime import connected
from storyreel.cluster.work import Work
from storyreel.stages.output.commits import UnitId
from storyreel.stages.output.manifests import Shard
from storyreel.stages.output.storage import Output
from tests.cluster.toys import NodeStage, Order

address, url = sys.argv[1:]

def render(name, **settings):
    config = PoolConfig(**settings)
    stages = {"copies": partial(NodeStage, output_url=url)}
    unit = UnitId(stage="copies", shard=Shard(index=0, count=1), story_id=name)
    with Pool(name="toys", stages=stages, output=Output(url), config=config, num_threads=1) as pool:
        future = pool.submit(Work(unit=unit, argument=Order(text=name)), priority=(0,))
        (Path(url) / f"{name}-waits").touch()
        return future.result().records

with connected(ClusterConfig(address=address)):
    try:
        render("never", num_cpus=8, placement_timeout_s=2)
    except PoolEndedError as error:
        print("ended:", error)
    print("rendered:", render("late", num_cpus=2))
"""


@pytest.fixture(scope="module")
def cluster(short_folder: Path) -> Iterator[Cluster]:
    # Ray's sockets have long names of their own below this folder.
    cluster = Cluster(folder=short_folder, port=free_port("127.0.0.2"))
    cluster.start_node()
    try:
        wait_until(lambda: "connected to 1" in cluster.run(CONNECT, cluster.address))
        yield cluster
    finally:
        for node in reversed(cluster.nodes):
            kill(node)


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_a_wrong_or_missing_token_is_refused_and_no_local_ray_is_started(cluster: Cluster) -> None:
    for token in ("b" * 64, None):
        said = cluster.run(CONNECT, cluster.address, token=token)
        assert f"refused: cluster.address {cluster.address}" in said
        assert "no Ray is left" in said
        assert "token" in said


@dataclass
class Job:
    """A command that has a pool on the cluster, and goes on until it is told that it is enough."""

    process: subprocess.Popen[str]
    output: Path

    def calls(self) -> list[tuple[str, str]]:
        """The unit and the address of the node of each call, in their order."""
        files = [call for call in (self.output / "calls").glob("*") if call.name[0] != "."]
        files.sort(key=lambda call: int(call.suffix[1:]))
        return [(call.stem, call.read_text()) for call in files]

    def wait_for_calls_on(self, addresses: set[str]) -> None:
        """Until units were called on all these nodes from now on."""
        before = len(self.calls())
        wait_until(lambda: addresses <= {address for _, address in self.calls()[before:]})

    def first_calls_of_repeated(self) -> dict[str, str]:
        """Where the units were called first that were called more than once."""
        times = Counter(unit for unit, _ in self.calls())
        return dict(reversed([call for call in self.calls() if times[call[0]] > 1]))

    def finish(self) -> dict[str, Any]:
        (self.output / "enough").touch()
        said, _ = self.process.communicate(timeout=240)
        assert self.process.returncode == 0, said
        summary: dict[str, Any] = json.loads(said.splitlines()[-1])
        return summary


@pytest.fixture
def job(cluster: Cluster, tmp_path: Path) -> Iterator[Job]:
    process = subprocess.Popen(
        [sys.executable, "-c", JOB, cluster.address, str(tmp_path)],
        env=cluster.environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield Job(process=process, output=tmp_path)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.timeout(600)
def test_a_job_survives_a_lost_node_and_a_bad_one_and_uses_a_new_one(
    cluster: Cluster, job: Job
) -> None:
    head, lost, other, bad = (f"127.0.0.{number}" for number in (2, 3, 4, 5))
    node, _ = cluster.start_node(), cluster.start_node()
    job.wait_for_calls_on({head, lost, other})
    job.wait_for_calls_on({lost})
    kill(node)
    cluster.start_node()
    job.wait_for_calls_on({bad})
    (job.output / "bad").mkdir()
    (job.output / "bad" / bad).touch()
    before = len(job.calls())
    wait_until(lambda: len(job.calls()) > before + 50)
    recent = {address for _, address in job.calls()[-20:]}
    summary = job.finish()
    assert not summary["failed"]
    assert recent == {head, other}
    first = job.first_calls_of_repeated()
    blamed = {(address, summary["attempts"][unit]) for unit, address in first.items()}
    assert blamed == {(lost, 1), (bad, 2)}


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_a_pool_waits_for_nodes_that_the_cluster_has_not_got_yet(
    cluster: Cluster, tmp_path: Path
) -> None:
    with ThreadPoolExecutor() as executor:
        said = executor.submit(cluster.run, EARLY, cluster.address, str(tmp_path))
        wait_until(lambda: said.done() or (tmp_path / "late-waits").exists())
        cluster.start_node(num_cpus=2)
    assert "no actor found a place in 2 s: an actor needs {'CPU': 8.0}" in said.result()
    assert "rendered: (File(path='copies/late.txt'" in said.result()
