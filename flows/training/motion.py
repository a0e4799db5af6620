"""`storyreel train motion`: index the videos, learn on workers of Ray Train, write the card.

The work folder is the truth about what is done; Prefect is a view of it.
"""

import json
import os
from functools import partial
from pathlib import Path

from prefect import flow, task
from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from storyreel.cluster.config import ClusterConfig
from storyreel.cluster.ray_runtime import connected
from storyreel.cluster.training import train_on_ray
from storyreel.flows.run.prefect_server import prefect_api
from storyreel.flows.training.card import card
from storyreel.flows.views.artifacts import small_picture
from storyreel.stages.output.urls import check_no_credentials
from storyreel.training.motion.config import MotionTrainingConfig
from storyreel.training.motion.metrics import read_metrics
from storyreel.training.motion.run import SAMPLES, TABLE2, Trained, train, use_threads
from storyreel.training.motion.work import claim, read_index, write_index
from storyreel.training.parts.motion import PredictorError
from storyreel.training.videos.index import IndexedVideo, index_videos, list_videos

MAX_PROBLEMS = 100
"""Videos that are left out, of which the artifact tells."""
MAX_PICTURES = 8
"""Samples that are shown."""
NUM_POINTS = 50
"""Rows of the curve that the artifact shows."""


def run_motion_training(
    config: MotionTrainingConfig, url: str, work: Path, cluster: ClusterConfig
) -> Trained:
    """Train, or go on training, as a flow run in this process.

    Args:
        config: the settings of the run.
        url: folder or Parquet table of videos.
        work: local or shared folder that all workers see.
        cluster: where the workers run.

    Raises:
        InputError: the folder holds another run, or the videos cannot be used.
    """
    check_no_credentials("VIDEOS", url)
    claim(work, config, url)
    with prefect_api(), connected(cluster):
        return train_motion(config, url, work)


@flow(name="train-motion", validate_parameters=False)
def train_motion(config: MotionTrainingConfig, url: str, work: Path) -> Trained:
    """Index, learn, describe; each step goes on from what is in the work folder."""
    index = index_task(config, url, work)
    trained = learn_task(config, index, work)
    describe_task(config, index, url, work, trained)
    return trained


@task(name="index videos")
def index_task(config: MotionTrainingConfig, url: str, work: Path) -> list[IndexedVideo]:
    """Decode every video once, or read what was found before."""
    index = read_index(work)
    if index is None:
        index = list(index_videos(list_videos(url, config.videos), config.videos))
        write_index(work, index)
    problems = [{"video": video.url, "problem": video.problem} for video in index if video.problem]
    clips = sum(len(video.starts) for video in index)
    create_table_artifact(
        key="videos-left-out",
        table=problems[:MAX_PROBLEMS] or [{"video": "-", "problem": "none"}],
        description=f"{len(index)} videos, {clips} clips, {len(problems)} videos left out",
    )
    return index


@task(name="learn")
def learn_task(config: MotionTrainingConfig, index: list[IndexedVideo], work: Path) -> Trained:
    """Learn on the workers, unless that is done."""
    done = work / "trained.json"
    if not done.exists():
        # Workers are other processes, perhaps elsewhere: their folder must not depend on ours.
        worker = partial(_work, config, index, work.resolve())
        train_on_ray(worker, config.workers, work)
    values = json.loads(done.read_text(encoding="utf-8"))
    return Trained(num_steps=values["num_steps"], error=PredictorError(**values["error"]))


def _work(config: MotionTrainingConfig, index: list[IndexedVideo], work: Path) -> None:
    use_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    train(config, index, work)


def _table2(work: Path) -> str:
    """The lines of the card about the frames of held-out clips, if a video model rendered some."""
    if not (work / TABLE2).exists():
        return ""
    means = json.loads((work / TABLE2).read_text(encoding="utf-8"))
    names = list(means["true"])
    head = ["| held-out clips | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    rows = [
        f"| {kind} | " + " | ".join(f"{values[name]:.4f}" for name in names) + " |"
        for kind, values in means.items()
    ]
    return "\n" + "\n".join([*head, *rows]) + "\n"


@task(name="describe")
def describe_task(
    config: MotionTrainingConfig,
    index: list[IndexedVideo],
    url: str,
    work: Path,
    trained: Trained,
) -> None:
    """Write the card, and show it and the curve in the UI."""
    text = card(config, index, url, trained) + _table2(work)
    (work / "export" / "README.md").write_text(text, encoding="utf-8")
    create_markdown_artifact(key="motion-card", markdown=text)
    for path in sorted((work / SAMPLES).glob("*.png"))[:MAX_PICTURES]:
        create_image_artifact(
            key="motion-sample",
            image_url=small_picture(path.read_bytes()),
            description=f"clip {path.stem}: true frames, and below them the rendered ones",
        )
    measured = read_metrics(work)
    chosen = list(measured)[:: max(1, len(measured) // NUM_POINTS)]
    rows = [{"step": step, **measured[step]} for step in chosen]
    create_table_artifact(key="motion-curve", table=rows, description="what was measured by step")
