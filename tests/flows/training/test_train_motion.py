"""`storyreel train motion`, really started: workers of Ray Train, a kill, and going on after it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from storyreel.stages.motion.predictor import SemanticMotionPredictor
from storyreel.training.motion.metrics import read_metrics
from tests.stages.tiny import save_tiny_family
from tests.training.videos.filmed import moving, write_video

CONFIG = """
[models.model]
path = "{family}"
[videos]
num_frames = 6
size = 32
[predictor]
num_steps = {num_steps}
batch_size = 2
accumulation = {accumulation}
hidden_dim = 16
num_layers = 1
num_heads = 2
min_frames = 4
learning_rate = 1e-3
checkpoint_every = 5
[workers]
num_workers = {num_workers}
num_cpus = 0.5
"""
NUM_STEPS = 400


@pytest.fixture(scope="module", autouse=True)
def _ray_train() -> None:
    pytest.importorskip("ray.train", exc_type=ImportError, reason="the extra `train` is missing")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six videos, one that is none, and a tiny family."""
    folder = tmp_path_factory.mktemp("training")
    (folder / "videos").mkdir()
    for seed in range(6):
        write_video(folder / "videos" / f"{seed}.mp4", moving(12, seed=seed), fps=8)
    (folder / "videos" / "broken.mp4").write_bytes(b"no video")
    save_tiny_family(folder / "family")
    return folder


def command(folder: Path, name: str, *, num_workers: int, accumulation: int) -> list[str]:
    config = folder / f"{name}.toml"
    config.write_text(
        CONFIG.format(
            family=folder / "family",
            num_steps=NUM_STEPS,
            num_workers=num_workers,
            accumulation=accumulation,
        ),
        encoding="utf-8",
    )
    arguments = ["train", "motion", str(folder / "videos"), "--output", str(folder / name)]
    return [sys.executable, "-m", "storyreel", *arguments, "--config", str(config)]


def kill_while_it_learns(arguments: list[str], work: Path) -> int:
    """Start the command, kill it and all that it started, and return the steps it had taken."""
    with subprocess.Popen(arguments, start_new_session=True) as process:
        try:
            deadline = time.monotonic() + 240
            while not (work / "checkpoint.safetensors").exists():
                assert process.poll() is None, "ended before it could be killed"
                assert time.monotonic() < deadline, "never learned"
                time.sleep(0.05)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    return max(read_metrics(work))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_run_of_one_worker_ends_with_the_losses_of_two_workers(folder: Path) -> None:
    subprocess.run(command(folder, "two", num_workers=2, accumulation=1), check=True, timeout=280)
    alone = command(folder, "one", num_workers=1, accumulation=2)
    taken = kill_while_it_learns(alone, folder / "one")
    assert taken < NUM_STEPS, "was killed too late to show anything"
    subprocess.run(alone, check=True, timeout=280)
    two, one = (read_metrics(folder / name) for name in ("two", "one"))
    assert list(one) == list(two) == list(range(1, NUM_STEPS + 1))
    for step, measured in one.items():
        assert measured["loss"] == pytest.approx(two[step]["loss"], rel=0.02, abs=1e-6), step
    export = folder / "one" / "export"
    assert SemanticMotionPredictor.from_pretrained(export / "motion_predictor") is not None
    card = (export / "README.md").read_text(encoding="utf-8")
    assert f"{NUM_STEPS} steps on 12 clips of 6 videos" in card
