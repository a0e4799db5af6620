"""Panels with control images, from the command line: poses are followed, or the row is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storyreel.stages.output.manifests import read_manifests
from storyreel.stages.output.records import Failure, Panel
from storyreel.stages.output.storage import Output
from tests.flows.conftest import Command
from tests.stages.tiny import save_tiny_controlnet

PANELS = [{"text": "A fox runs.", "control_image": "pose.png", "beats": 2}, "A fox sleeps."]


def write_stories(folder: Path) -> Path:
    """Two stories, the first with a pose, and the pose beside them."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(noise).save(folder / "pose.png")
    rows = [
        {"story_id": "posed", "panels": PANELS},
        {"story_id": "free", "panels": ["A fox runs.", "A fox sleeps."]},
    ]
    path = folder / "stories.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


@pytest.mark.slow
def test_all_beats_of_a_posed_panel_follow_its_pose_and_the_job_is_whole(
    command: Command, tmp_path: Path
) -> None:
    stories, output = write_stories(tmp_path), tmp_path / "job"
    control = save_tiny_controlnet(tmp_path / "controlnet", "sd15")
    options = ["--set", f"keyframes.controlnet.path={control}"]
    done = command.run(*command.render(stories, output, *options))
    assert done.returncode == 0, done.stderr
    panels = list(read_manifests(Output(str(output)), "panels", Panel))
    posed = {panel.keyframe_index: panel.control_image for panel in panels if panel.control_image}
    assert sorted(posed) == [0, 1]
    assert len(set(posed.values())) == 1
    (pose,) = (output / "references").iterdir()
    assert set(posed.values()) == {f"references/{pose.name}"}

    pose.write_bytes(pose.read_bytes()[:-9])
    audit = command.run("verify", str(output))
    assert audit.returncode == 1
    assert pose.name in audit.stdout


@pytest.mark.slow
def test_a_pose_that_nothing_would_follow_is_refused_and_the_other_story_is_rendered(
    command: Command, tmp_path: Path
) -> None:
    stories, output = write_stories(tmp_path), tmp_path / "job"
    done = command.run(*command.render(stories, output))
    assert done.returncode == 1, done.stderr
    (failure,) = read_manifests(Output(str(output)), "failures", Failure)
    assert failure.story_id == "posed"
    assert "panels[0]: control_image 'pose.png': must be left out" in failure.message
    assert [film.name for film in (output / "films").glob("*.mp4")] == ["free.mp4"]
