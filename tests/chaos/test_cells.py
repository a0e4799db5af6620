"""Everything that can go wrong in a night, at every stage: the job ends as if it had not.

Each cell is one kind of failure at one unit of one stage, chosen by a seed. `CHAOS_SEED=n` repeats
or varies a run; a failed test tells its seed.
"""

import random
import signal
import subprocess
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from benchmarks.simulated import CONFIG
from storyreel.flows.audit.repair import open_for_repair
from storyreel.flows.audit.verify import verify
from storyreel.flows.job.config import make_config
from storyreel.flows.job.control import Cancel, update_control
from storyreel.flows.job.job import open_job
from storyreel.flows.job.stages import STAGES
from storyreel.stages.errors import LockedError
from storyreel.stages.output.manifests import read_manifests
from storyreel.stages.output.records import Failure
from storyreel.stages.output.storage import Output
from tests.chaos.conftest import PrefectServer
from tests.chaos.scene import (
    NUM_ACTORS,
    NUM_CPUS,
    SETTINGS,
    SHARED,
    STEP_TIMEOUT_S,
    Scene,
    chance,
    wait_until,
)
from tests.chaos.stages import Trouble, noted, pid_of
from tests.chaos.starter import MARK
from tests.cluster.nodes import Cluster, kill
from tests.flows.test_stray_files import scatter
from tests.records import commit_records

pytestmark = pytest.mark.timeout(1200)

QUICK = {
    ("kill the flow", "motion"),
    ("full disk", "keyframes"),
}
"""The cells that are tried with all the other tests."""


def cells(failure: str) -> pytest.MarkDecorator:
    """One test for each stage."""
    marks = [[] if (failure, stage) in QUICK else [pytest.mark.slow] for stage in STAGES.names]
    stages = [pytest.param(s, marks=m, id=s) for s, m in zip(STAGES.names, marks, strict=True)]
    return pytest.mark.parametrize("stage", stages)


def plan(scene: Scene, undisturbed: Scene, kind: str, stage: str, failure: str) -> Trouble:
    """Give a scene its trouble, at a unit and a moment that the seed chooses."""
    dice = chance(failure, stage)
    units = sorted(name for name in undisturbed.attempts() if name.startswith(f"{stage}/"))
    trouble = Trouble(
        kind=kind,
        stage=stage,
        unit=dice.choice(units).partition("/")[2],
        times=dice.choice([1, 2]) if failure in REPEATED else 1,
        after=dice.choice([False, True]) and failure not in BEFORE,
    )
    print(trouble)  # noqa: T201, shown when a test fails
    scene.troubles.append(trouble)
    return trouble


BEFORE = {"damage"}
"""What only does harm before the unit has read what it needs."""

REPEATED = {"exception", "exit", "kill the actor"}
"""What may happen twice to a unit; the third attempt is its last."""


def check_each_unit_once(scene: Scene, undisturbed: Scene) -> None:
    """The oracle of a cell in which no unit was tried twice."""
    assert scene.wait() == 0, scene.log()
    scene.check(undisturbed)
    assert set(scene.attempts().values()) == {1}, scene.log()


def check_blame(scene: Scene, undisturbed: Scene, trouble: Trouble, attempts: int) -> None:
    """The oracle of a cell in which one unit was tried several times, and no other twice."""
    scene.check(undisturbed)
    tried_again = {name: n for name, n in scene.attempts().items() if n > 1}
    due = {f"{trouble.stage}/{trouble.unit}": attempts} if attempts > 1 else {}
    assert tried_again == due, scene.log()


@cells("exception")
def test_a_unit_that_raises_is_tried_again(scene: Scene, undisturbed: Scene, stage: str) -> None:
    trouble = plan(scene, undisturbed, "exception", stage, "exception")
    scene.run()
    check_blame(scene, undisturbed, trouble, 1 + trouble.times)


@cells("exit")
def test_a_unit_that_ends_its_process_is_tried_again(
    scene: Scene, undisturbed: Scene, stage: str
) -> None:
    trouble = plan(scene, undisturbed, "exit", stage, "exit")
    scene.run()
    check_blame(scene, undisturbed, trouble, 1 + trouble.times)


@cells("kill the actor")
def test_a_killed_actor_is_replaced(scene: Scene, undisturbed: Scene, stage: str) -> None:
    trouble = plan(scene, undisturbed, "stand", stage, "kill the actor")
    scene.start()
    for time_ in range(trouble.times):
        psutil.Process(pid_of(scene.standing(time_ + 1))).kill()
    assert scene.wait() == 0, scene.log()
    check_blame(scene, undisturbed, trouble, 1 + trouble.times)


@cells("kill the flow")
def test_a_killed_flow_loses_what_was_in_flight_and_nothing_more(
    scene: Scene, undisturbed: Scene, stage: str
) -> None:
    plan(scene, undisturbed, "stand", stage, "kill the flow")
    scene.start()
    scene.standing()
    scene.kill_flow()
    scene.check_no_process_is_left()
    before = commit_records(scene.output)
    scene.run()
    scene.check(undisturbed)
    assert before.items() <= commit_records(scene.output).items()
    lost = len(noted(scene.folder, "calls")) - len(scene.attempts())
    assert 1 <= lost <= sum(NUM_ACTORS.values()), scene.log()


@cells("hang")
def test_a_unit_that_hangs_is_tried_on_another_worker(
    scene: Scene, undisturbed: Scene, stage: str
) -> None:
    trouble = plan(scene, undisturbed, "hang", stage, "hang")
    scene.run()
    scene.check(undisturbed)
    assert scene.attempts()[f"{stage}/{trouble.unit}"] >= 2


@cells("stop the actor")
def test_a_stopped_actor_is_replaced_and_does_not_stay(
    scene: Scene, undisturbed: Scene, stage: str
) -> None:
    trouble = plan(scene, undisturbed, "stand", stage, "stop the actor")
    scene.start()
    psutil.Process(pid_of(scene.standing())).send_signal(signal.SIGSTOP)
    assert scene.wait() == 0, scene.log()
    scene.check(undisturbed)
    assert scene.attempts()[f"{stage}/{trouble.unit}"] >= 2


@contextmanager
def small_disk(folder: Path, size: str = "4m") -> Iterator[Path]:
    """A file system of that size; it is gone with the process whose mount it is."""
    folder.mkdir()
    mount = f'mount -t tmpfs -o size={size} tmpfs "$0" && echo mounted && exec sleep infinity'
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "mounted\n"
        try:
            yield Path(f"/proc/{holder.pid}/root{folder}")
        finally:
            holder.kill()


def fill(ballast: Path) -> None:
    """Write until no byte is left."""
    with ballast.open("wb", buffering=0) as file:
        for block in (1 << 16, 1 << 8, 1):
            with suppress(OSError):
                while file.write(bytes(block)):
                    pass


@cells("full disk")
def test_a_full_disk_pauses_the_job_and_blames_nobody(
    scene: Scene, undisturbed: Scene, stage: str, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        scene.output = disk / "job"
        plan(scene, undisturbed, "stand", stage, "full disk")
        scene.start()
        scene.standing()
        fill(disk / "ballast")
        scene.release()
        full_until = time.monotonic() + 1.5 * STEP_TIMEOUT_S
        units = len(scene.attempts())
        wait_until(lambda: time.monotonic() > full_until, "some time with a full disk", scene)
        assert len(scene.attempts()) <= units + sum(NUM_ACTORS.values())
        (disk / "ballast").unlink()
        check_each_unit_once(scene, undisturbed)


def damage(path: Path, dice: random.Random) -> None:
    """Cut a file, or change one of its bytes, behind the back of whoever wrote it."""
    content = bytearray(path.read_bytes())
    place = dice.randrange(len(content))
    if dice.choice([False, True]):
        del content[place:]
    else:
        content[place] ^= 0xFF
    path.write_bytes(content)


READ_BY = {"prompts": "keyframes", "keyframes": "motion", "motion": "films"}
"""The stage that a unit stands at while what the stage before it made is damaged."""

MADE = {"prompts": "manifests/panels/*", "keyframes": "keyframes/*/*", "motion": "clips/*/*"}
"""What a later stage has yet to read then: all stories' films read the panels and the keyframes."""


@cells("damage")
def test_damaged_output_goes_into_no_film_and_can_be_made_again(
    scene: Scene, undisturbed: Scene, stage: str
) -> None:
    """The story is reported and the others are rendered; `repair` makes good what was damaged."""
    dice = chance("damage", stage, "place")
    if stage in READ_BY:
        plan(scene, undisturbed, "stand", READ_BY[stage], "damage")
        scene.start()
        story = scene.standing().name.split(":")[1].partition(".")[0]
        ours = [path for path in scene.output.glob(MADE[stage]) if story in str(path)]
        damaged = dice.choice(sorted(ours or scene.output.glob(MADE[stage])))
        damage(damaged, dice)
        scene.release()
        assert scene.wait() in (1, 2), scene.log()
    else:
        scene.run()
        damaged = dice.choice(sorted(scene.output.glob("films/*")))
        damage(damaged, dice)
    output, place = Output(str(scene.output)), str(damaged.relative_to(scene.output))
    assert place in {problem.place for problem in verify(output).problems}
    reported = "".join(f.message for f in read_manifests(output, "failures", Failure)) + scene.log()
    assert place in reported or stage == "films"
    changed = scene.pictures().items() - undisturbed.pictures().items()
    assert {path for path, _ in changed} <= {place}, scene.log()

    assert place in open_for_repair(output)
    scene.run()
    scene.check(undisturbed)


@pytest.fixture
def two_nodes(cluster: Cluster) -> Iterator[list[psutil.Process]]:
    """Two more nodes, large enough for actors that fit nowhere else; either one holds them all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MARK, SHARED)
        nodes = [cluster.start_node(num_cpus=sum(NUM_ACTORS.values()) * LARGE) for _ in range(2)]
    yield nodes
    for node in nodes:
        kill(node)


LARGE = NUM_CPUS + 1
"""CPUs that an actor asks for which does not fit on the cluster's first node."""

ON_LARGE_NODES = (*SETTINGS, *(f"pools.{pool}.num_cpus={LARGE}" for pool in NUM_ACTORS))


@cells("lose the node")
def test_a_lost_node_costs_no_unit_an_attempt(
    scene: Scene, undisturbed: Scene, two_nodes: list[psutil.Process], stage: str
) -> None:
    scene.settings = ON_LARGE_NODES
    plan(scene, undisturbed, "stand", stage, "lose the node")
    scene.start()
    actor = psutil.Process(pid_of(scene.standing()))
    (node,) = set(actor.parents()) & set(two_nodes)
    kill(node)
    check_each_unit_once(scene, undisturbed)


@cells("restart Prefect")
def test_a_restart_of_the_prefect_server_does_not_touch_the_render(
    scene: Scene, undisturbed: Scene, prefect_server: PrefectServer, stage: str
) -> None:
    plan(scene, undisturbed, "stand", stage, "restart Prefect")
    scene.start()
    scene.standing()
    prefect_server.kill()
    units = len(scene.attempts())
    scene.release()
    wait_until(lambda: len(scene.attempts()) > units, "more units", scene)
    prefect_server.start()
    check_each_unit_once(scene, undisturbed)


@cells("lose Prefect")
def test_a_prefect_server_that_is_gone_for_good_costs_nothing_but_the_view(
    scene: Scene, undisturbed: Scene, prefect_server: PrefectServer, stage: str
) -> None:
    plan(scene, undisturbed, "stand", stage, "lose Prefect")
    scene.view_patience_s = 1.0
    scene.start()
    scene.standing()
    prefect_server.kill()
    try:
        scene.release()
        check_each_unit_once(scene, undisturbed)
    finally:
        prefect_server.start()


@cells("freeze the node")
def test_a_node_that_comes_back_late_overwrites_nothing(
    scene: Scene, undisturbed: Scene, two_nodes: list[psutil.Process], stage: str
) -> None:
    """As after a cut of its link: what its workers had begun is done elsewhere meanwhile."""
    scene.settings = ON_LARGE_NODES
    plan(scene, undisturbed, "stand", stage, "freeze the node")
    scene.start()
    actor = psutil.Process(pid_of(scene.standing()))
    (node,) = set(actor.parents()) & set(two_nodes)
    frozen = [node, *node.children(recursive=True)]
    for process in frozen:
        process.suspend()
    scene.release()
    status = scene.wait()
    for process in frozen:
        with suppress(psutil.NoSuchProcess):
            process.resume()
    # It stood still until here, so that another one has done its unit; whether that counts as an
    # attempt depends on who was missed first, the node or the actor.
    assert status == 0, scene.log()
    time.sleep(STEP_TIMEOUT_S)  # for what the late ones still do
    assert verify(Output(str(scene.output))).problems == []
    assert scene.pictures() == undisturbed.pictures(), scene.log()
    scene.check_no_process_is_left()


@cells("another command")
def test_a_command_with_other_settings_is_refused_and_disturbs_nothing(
    scene: Scene, undisturbed: Scene, stage: str
) -> None:
    plan(scene, undisturbed, "stand", stage, "another command")
    scene.start()
    scene.standing()
    other = make_config("chaos", tomllib.loads(CONFIG), [*SETTINGS, "films.fps=12"])
    with pytest.raises(LockedError, match="is held by"):
        open_job(Output(str(scene.output)), str(scene.stories), other, replace=True)
    scene.release()
    check_each_unit_once(scene, undisturbed)


@cells("stray files")
def test_files_that_a_cloud_drive_leaves_everywhere_change_nothing(
    scene: Scene, undisturbed: Scene, stage: str
) -> None:
    plan(scene, undisturbed, "stand", stage, "stray files")
    scene.start()
    scene.standing()
    strays = list(scatter(scene.output))
    scene.release()
    assert scene.wait() == 0, scene.log()
    for stray in reversed(strays):
        stray.rmdir() if stray.is_dir() else stray.unlink(missing_ok=True)
    scene.check(undisturbed)
    assert set(scene.attempts().values()) == {1}, scene.log()


@cells("cancel")
def test_a_cancelled_job_goes_on_where_it_stopped(
    scene: Scene, undisturbed: Scene, stage: str
) -> None:
    dice = chance("cancel", stage, "how")
    plan(scene, undisturbed, "stand", stage, "cancel")
    scene.start()
    scene.standing()
    output = Output(str(scene.output))
    update_control(output, cancel=dice.choice([Cancel.DRAIN, Cancel.NOW]))
    scene.release()
    assert scene.wait() == 0, scene.log()
    before = commit_records(scene.output)
    update_control(output, cancel=Cancel.NO)
    scene.run()
    scene.check(undisturbed)
    assert before.items() <= commit_records(scene.output).items()
