"""One job of the chaos suite: its flow, what is done to it, and what it must have come to."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from storyreel.flows.audit.verify import verify
from storyreel.stages.output.commits import COMMITTED
from storyreel.stages.output.copies import plain_name
from storyreel.stages.output.storage import Output, checksum
from tests.chaos.stages import Trouble, noted
from tests.chaos.starter import MARK
from tests.records import commit_records

ROOT = Path(__file__).resolve().parents[2]

SEED = int(os.environ.get("CHAOS_SEED", "0"))
"""What decides on units and moments; another one is another suite."""

PATIENCE_S = 400.0
"""Time in which anything that is waited for must happen, on a machine that has much else to do."""

STEP_TIMEOUT_S = 8.0
MAX_ATTEMPTS = 3
NUM_STORIES = 6
NUM_ACTORS = {"assembly": 1, "render": 2}
NUM_CPUS = 2
"""CPUs of the node that all scenes share."""

SETTINGS = (
    "keyframes.model.path=none/needed",
    "motion.model.path=none/needed",
    "execution.shard_size=3",
    f"pools.render.num_actors={NUM_ACTORS['render']}",
    f"pools.assembly.num_actors={NUM_ACTORS['assembly']}",
    f"pools.render.step_timeout_s={STEP_TIMEOUT_S}",
    f"pools.assembly.step_timeout_s={STEP_TIMEOUT_S}",
)

SHARED = "shared"
"""The mark of the processes that serve all the scenes."""

PICTURES = ("keyframes", "clips", "films")


def write_stories(path: Path, num_stories: int, num_panels: int = 3) -> Path:
    """An input of stories of so many sentences each."""
    text = " ".join(f"The fox sees thing {n}." for n in range(num_panels))
    rows = ({"story_id": f"s{index:04d}", "text": text} for index in range(num_stories))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class Starter:
    """Starts flows: a process that has imported everything once."""

    def __init__(self, environment: dict[str, str], *, prefect_port: int, ray_address: str) -> None:
        self.prefect_port = prefect_port
        self.ray_address = ray_address
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.starter"],
            env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def start(self, task: str, folder: Path, mark: str, **request: Any) -> psutil.Process:
        """Start a process that does `task`; it prints to the file `log` of `folder`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"task": task, "folder": str(folder), "mark": mark, **request}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return psutil.Process(int(self._process.stdout.readline()))

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@dataclass
class Scene:
    """A job in a folder of its own, its flow, and the troubles that are planned for it."""

    starter: Starter
    folder: Path
    stories: Path
    output: Path
    settings: Sequence[str] = SETTINGS
    troubles: list[Trouble] = field(default_factory=list)
    view_patience_s: float | None = None
    """How long the flow waits at its end for a server that is gone; None: as long as it likes."""
    flow: psutil.Process | None = None

    def start(self) -> None:
        """Start the flow, or start it again."""
        (self.folder / "status").unlink(missing_ok=True)
        self.flow = self.starter.start(
            "render",
            self.folder,
            mark=str(self.folder),
            output=str(self.output),
            stories=str(self.stories),
            settings=[*self.settings, f"cluster.address={self.starter.ray_address}"],
            troubles=[asdict(trouble) for trouble in self.troubles],
            view_patience_s=self.view_patience_s,
        )

    @property
    def is_running(self) -> bool:
        return self.flow is not None and self.flow.is_running()

    def wait(self) -> int | None:
        """Wait for the flow's end; its exit status, none if it was killed."""
        wait_until(lambda: not self.is_running, "the end of the flow")
        status = self.folder / "status"
        return int(status.read_text()) if status.exists() else None

    def run(self) -> None:
        """Start the flow and let it finish the job."""
        self.start()
        assert self.wait() == 0, self.log()

    def kill_flow(self) -> None:
        """SIGKILL."""
        assert self.flow is not None
        self.flow.kill()
        self.wait()

    def standing(self, times: int = 1) -> Path:
        """The note on the trouble that was just met, once there are so many."""
        wait_until(lambda: len(noted(self.folder, "troubles")) >= times, "the trouble", self)
        return noted(self.folder, "troubles")[times - 1]

    def release(self) -> None:
        """Let the units go on that stand."""
        (self.folder / "go").touch()

    def log(self) -> str:
        """The last of what the flow printed."""
        return f"CHAOS_SEED={SEED}\n" + (self.folder / "log").read_text()[-8000:]

    def attempts(self) -> dict[str, int]:
        """How often the units that are done were tried, as their commit records say."""
        return {
            f"{Path(path).parts[-3]}/{path.removesuffix(COMMITTED).rpartition('/')[2]}": json.loads(
                content
            )["attempts"]
            for path, content in commit_records(self.output).items()
        }

    def pictures(self) -> dict[str, str]:
        """The checksums of what people look at."""
        files = (p for kind in PICTURES for p in (self.output / kind).rglob("*") if p.is_file())
        return {plain_name(str(p.relative_to(self.output))): checksum(p) for p in files}

    def check(self, undisturbed: "Scene") -> None:
        """The oracle: nothing lost, nothing twice, nobody innocent harmed, the same bytes."""
        audit = verify(Output(str(self.output)))
        assert not audit.problems, (audit.problems, self.log())
        assert (audit.num_films, audit.num_failures) == (NUM_STORIES, 0), self.log()
        assert self.pictures() == undisturbed.pictures(), self.log()
        attempts = self.attempts()
        assert attempts.keys() == undisturbed.attempts().keys()
        assert max(attempts.values()) <= MAX_ATTEMPTS, attempts
        # The record of a worker that was alive when its unit ended stays, and counts no more.
        left = [json.loads(p.read_text()) for p in self.output.glob("units/*/*/*.attempt-*")]
        assert all(record["attempts"] == 0 for record in left), left
        self.check_no_process_is_left()

    def check_no_process_is_left(self) -> None:
        """The flow has left no process of its own, and no actor on the cluster."""
        wait_until(lambda: not list(self.processes()), "the end of the flow's processes")

    def processes(self) -> Iterator[psutil.Process]:
        """The flow's processes and actors that are still there."""
        for process in psutil.process_iter():
            try:
                mark = process.environ().get(MARK)
                actor = mark == SHARED and "ray::Worker" in " ".join(process.cmdline())
                ours = mark == str(self.folder) or actor
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    yield process
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue

    def end(self) -> None:
        """Kill whatever is left, so that one cell's failure is not the next one's."""
        if self.flow is not None and self.is_running:
            self.flow.kill()
        for process in self.processes():
            process.kill()


def wait_until(condition: Callable[[], Any], what: str, scene: Scene | None = None) -> Any:
    """What `condition` gives once it is true."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        if scene is not None:
            assert scene.is_running, f"waited for {what}, the flow is over\n{scene.log()}"
        assert time.monotonic() < deadline, f"waited too long for {what}\n{scene and scene.log()}"
        time.sleep(0.05)
    return found


def chance(*place: str) -> random.Random:
    """The dice of one cell."""
    print(f"CHAOS_SEED={SEED}")  # noqa: T201, shown when a test fails
    return random.Random(f"{SEED} {' '.join(place)}")
