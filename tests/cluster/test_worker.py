"""What a worker does with a unit that another worker has as well."""

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from storyreel.cluster.work import Attempt, Loaded, Work
from storyreel.cluster.worker import Worker
from storyreel.stages.output.commits import Commit, UnitId, folder, read_commit
from storyreel.stages.output.manifests import Shard
from storyreel.stages.output.records import File
from storyreel.stages.output.storage import Output
from storyreel.stages.output.unit_records import PACK, UnitRecords

SHARD = Shard(index=0, count=1)
UNIT = UnitId(stage="films", shard=SHARD, story_id="fox")
WORK = Work(unit=UNIT, argument=None, record=File)


@dataclass
class Interrupted:
    """Publishes a film; in the middle of the first call something happens elsewhere."""

    output: Output
    content: bytes
    meanwhile: list[Callable[[], object]] = field(default_factory=list)

    def __call__(self, _argument: object) -> tuple[File, ...]:
        if self.meanwhile:
            self.meanwhile.pop()()
        return (self.output.publish("films/fox.mp4", self.content),)


def worker(name: str, output: Output, stage: Interrupted) -> Worker:
    made = Worker(name=name, stages={"films": lambda: stage}, output=output)
    loaded = made.load()
    assert isinstance(loaded, Loaded)
    assert loaded.label == f"{name}@{socket.gethostname()}"
    return made


def test_a_worker_that_comes_back_after_its_unit_was_done_elsewhere_changes_nothing(
    tmp_path: Path,
) -> None:
    """As one whose network was cut: the film that was committed is the film that stays."""
    output = Output(str(tmp_path))
    second = worker("second", output, Interrupted(output, b"by the second"))
    stage = Interrupted(output, b"by the first", [lambda: second.run(WORK, Attempt(number=1))])
    late = worker("first", output, stage).run(WORK, Attempt(number=1))

    made = read_commit(output, UNIT, File)
    assert made.worker.startswith("second@")
    assert output.read_checked(made.records[0]) == b"by the second"
    assert isinstance(late, Commit)
    assert late.records == made.records
    assert [path.name for path in (tmp_path / "films").iterdir()] == [
        Path(made.records[0].path).name
    ]


def test_a_unit_that_is_committed_is_not_done_again(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    first = worker("first", output, Interrupted(output, b"film")).run(WORK, Attempt(number=1))
    again = Interrupted(output, b"another film")
    assert worker("second", output, again).run(WORK, Attempt(number=1)) == first
    assert (tmp_path / "films/fox.mp4").read_bytes() == b"film"
    UnitRecords.find(output, "films", SHARD).pack({})
    assert output.names(folder("films", SHARD)) == [PACK]


def test_an_attempt_after_one_that_failed_gets_the_plain_names_again(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    tired = worker("tired", output, Interrupted(output, b"film", [lambda: 1 / 0]))
    assert not isinstance(tired.run(WORK, Attempt(number=1)), Commit)
    assert UnitRecords.find(output, "films", SHARD).attempted == {"fox": 1}
    assert isinstance(tired.run(WORK, Attempt(number=2)), Commit)
    assert (tmp_path / "films/fox.mp4").read_bytes() == b"film"
    UnitRecords.find(output, "films", SHARD).pack({})
    assert output.names(folder("films", SHARD)) == [PACK]
