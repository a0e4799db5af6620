"""A job with poisonous stories: each is found out and set aside, and nobody else suffers."""

from pathlib import Path

import pytest

from storyreel.flows.audit.verify import verify
from storyreel.flows.job.stages import STAGES
from storyreel.stages.output.manifests import read_manifests
from storyreel.stages.output.records import Failure, Film
from storyreel.stages.output.storage import Output
from tests.chaos.conftest import PrefectServer
from tests.chaos.scene import (
    MAX_ATTEMPTS,
    SETTINGS,
    Scene,
    Starter,
    chance,
    write_stories,
)
from tests.chaos.stages import Trouble, noted

NUM_STORIES = 300
NUM_PANELS = 2

CLASSES = {
    "exception": "exception",
    "exit": "worker_died",
    "hang": "timeout",
    "memory": "out_of_memory",
    "kill flow": "worker_died",
}
"""What each poison does, and the class of failure that it must be given up with."""


def poisons() -> list[Trouble]:
    """One poisonous story of each kind, at a stage that the seed chooses."""
    dice = chance("poison")
    stories = dice.sample(range(NUM_STORIES), len(CLASSES))
    troubles = []
    for kind, story in zip(CLASSES, stories, strict=True):
        stage = dice.choice(STAGES.names)
        unit = f"s{story:04d}" + (".0000" if stage == "motion" else "")
        after = dice.choice([False, True])
        troubles.append(Trouble(kind=kind, stage=stage, unit=unit, times=99, after=after))
    print(troubles)  # noqa: T201, shown when a test fails
    return troubles


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_poisonous_stories_are_quarantined_with_their_class_and_no_other_story_is_affected(
    starter: Starter, prefect_server: PrefectServer, tmp_path: Path
) -> None:
    scene = Scene(
        starter=starter,
        folder=tmp_path,
        stories=write_stories(tmp_path / "stories.jsonl", NUM_STORIES, NUM_PANELS),
        output=tmp_path / "job",
        settings=(*SETTINGS, "execution.shard_size=50"),
        troubles=poisons(),
    )
    try:
        check_poisoned(scene)
    finally:
        scene.end()


def check_poisoned(scene: Scene) -> None:
    """Start the job again as often as it is killed, then look at what it has come to."""
    num_killed = 0
    scene.start()
    while (status := scene.wait()) is None:
        num_killed += 1
        assert num_killed <= MAX_ATTEMPTS, scene.log()
        scene.start()
    assert num_killed == MAX_ATTEMPTS
    assert status == 1, scene.log()

    output = Output(str(scene.output))
    audit = verify(output)
    assert not audit.problems, audit.problems
    failures = {f.story_id: f for f in read_manifests(output, "failures", Failure)}
    poisoned = {trouble.unit[:5]: trouble for trouble in scene.troubles}
    assert failures.keys() == poisoned.keys()
    for story_id, trouble in poisoned.items():
        failure = failures[story_id]
        assert (failure.stage, failure.unit_id) == (trouble.stage, trouble.unit)
        assert failure.error_class == CLASSES[trouble.kind], failure
        assert failure.attempts <= MAX_ATTEMPTS
        calls = noted(scene.folder, "calls", trouble.stage, trouble.unit)
        # An attempt that was in flight when the flow was killed may be made once more.
        assert len(calls) <= MAX_ATTEMPTS, (failure, calls)
    films = [film.story_id for film in read_manifests(output, "films", Film)]
    assert sorted([*films, *failures]) == [f"s{n:04d}" for n in range(NUM_STORIES)]
    assert max(scene.attempts().values()) <= MAX_ATTEMPTS
