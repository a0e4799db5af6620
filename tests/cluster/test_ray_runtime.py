"""Connecting to Ray: what a command finds when it starts, and leaves when it is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from storyreel.cluster.config import ClusterConfig
from storyreel.cluster.ray_runtime import connected
from storyreel.stages.output.commits import UnitId, read_attempts
from storyreel.stages.output.manifests import Shard
from storyreel.stages.output.storage import Output
from storyreel.stages.output.unit_records import UnitRecords
from tests.cluster.processes import is_alive

ROOT = Path(__file__).parents[2]

COMMAND = """
import sys
from functools import partial
from storyreel.cluster.config import ClusterConfig, PoolConfig
from storyreel.cluster.pool import Pool
from storyreel.cluster.ray_runtime import connected
from storyreel.cluster.work import Work
from storyreel.stages.output.commits import UnitId
from storyreel.stages.output.manifests import Shard
from storyreel.stages.output.storage import Output
from storyreel.stages.output.unit_records import UnitRecords
from tests.cluster.toys import CopyStage, Order

url = sys.argv[1]
stages = {"copies": partial(CopyStage, output_url=url)}
with connected(ClusterConfig(num_cpus=1)):
    pool = Pool(name="toys", stages=stages, output=Output(url), config=PoolConfig(), num_threads=1)
    unit = UnitId(stage="copies", shard=Shard(index=0, count=1), story_id="story")
    pool.submit(Work(unit=unit, argument=Order(text="story", trouble="hang")), priority=(0,))
    pool.close()
"""


def start_command(home: Path, output: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "RAY_ADDRESS": "127.0.0.1:9",
        "RAY_AUTH_MODE": "disabled",
    }
    return subprocess.Popen([sys.executable, "-c", COMMAND, str(output)], env=environment)


def wait_until(condition: object, *, seconds: float) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.05)


def test_a_killed_command_leaves_the_attempt_on_disk_and_no_worker(tmp_path: Path) -> None:
    token = tmp_path / "home" / ".ray" / "auth_token"
    token.parent.mkdir(parents=True)
    token.write_text("0" * 64)
    token.chmod(0o644)
    (output := tmp_path / "output").mkdir()
    with start_command(tmp_path / "home", output) as command:
        called = output / "calls"
        wait_until(
            lambda: called.exists() and any(c.read_text() for c in called.iterdir()), seconds=90
        )
        command.send_signal(signal.SIGKILL)
    (worker,) = (int(call.read_text()) for call in called.iterdir())
    wait_until(lambda: not is_alive(worker), seconds=20)
    shard = Shard(index=0, count=1)
    assert UnitRecords.find(Output(str(output)), "copies", shard).attempted == {"story": 1}
    unit = UnitId(stage="copies", shard=shard, story_id="story")
    assert read_attempts(Output(str(output)), unit, 1) == 1
    assert token.stat().st_mode & 0o777 == 0o600


@pytest.mark.usefixtures("local_ray")
def test_the_token_of_a_local_ray_is_its_owners_only() -> None:
    token = Path.home() / ".ray" / "auth_token"
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert token.stat().st_mode & 0o777 == 0o600


def test_a_cluster_that_does_not_answer_is_an_error_and_no_local_ray() -> None:
    with (
        pytest.raises(
            ConnectionError, match=r"cluster\.address 127\.0\.0\.1:9: no Ray cluster"
        ) as refused,
        connected(ClusterConfig(address="127.0.0.1:9")),
    ):
        raise AssertionError("connected")
    # Ray, which would have tried for more than a minute, was not asked.
    assert isinstance(refused.value.__cause__, ConnectionRefusedError)


@pytest.mark.parametrize("address", ["auto", "local", "ray://head:10001", "head", ""])
def test_an_address_that_leaves_open_what_is_used_is_refused(address: str) -> None:
    with pytest.raises(ValidationError, match="address"):
        ClusterConfig(address=address)
