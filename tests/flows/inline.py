"""A job that is rendered by small stand-ins of the stages, with real records, seals and files.

What is under test around them is how the work is recorded, not what the pictures show.
"""

import io
import json
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from PIL import Image

from storyreel.cluster.work import Work
from storyreel.flows.job.config import load_config
from storyreel.flows.job.job import Job, open_job, read_job
from storyreel.flows.run.shards import STAGES, ShardPipeline, render_stage
from storyreel.stages.output.commits import Commit, commit, commit_failure
from storyreel.stages.output.records import (
    Clip,
    Failure,
    Film,
    Keyframe,
    Panel,
    Shot,
    ShotKind,
    Storyboard,
)
from storyreel.stages.output.storage import Output

PANELS = 3

Fails = Callable[[Work], bool]


def lay_out(output: Output, folder: Path, num_stories: int, shard_size: int = 2) -> Job:
    """A job of stories `s000`, `s001`, ..., of which nothing is rendered."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = ({"story_id": f"s{i:03d}", "text": f"Story {i}."} for i in range(num_stories))
    stories = folder / "stories.jsonl"
    stories.write_text("\n".join(map(json.dumps, rows)))
    config = load_config("pocket", overrides=[f"execution.shard_size={shard_size}"])
    return open_job(output, str(stories), config)


def render_inline(output: Output, fails: Fails = lambda work: False) -> Job:
    """Bring all the shards of a job to their seals."""
    job = read_job(output)
    run = InlineRun(output, fails)
    for shard in job.unfinished():
        pipeline = ShardPipeline(output, shard, fingerprint=job.fingerprint, fps=8)
        for name in STAGES:
            stage = pipeline.stage(name)
            if not stage.is_sealed(output):
                render_stage(stage, output, run)
    return job


class InlineRun:
    """Does units at once, in this thread; `tried` names those that it was given."""

    def __init__(self, output: Output, fails: Fails) -> None:
        self._output = output
        self._fails = fails
        self.tried: list[str] = []

    def submit(self, work: Work, priority: tuple[int, ...]) -> Future[Any]:
        """Do a unit, or give it up."""
        self.tried.append(str(work.unit))
        over: Future[Any] = Future()
        if self._fails(work):
            failure = _failure(work)
            commit_failure(self._output, work.unit, failure)
            over.set_result(failure)
            return over
        records = MAKERS[work.unit.stage](self._output, work)
        made = Commit(records=records, attempts=1, worker="inline", seconds=0.1, hardware="none")
        commit(self._output, work.unit, made)
        over.set_result(records)
        return over

    def opened(self, stage: Any, num_units: int) -> None:
        """Nobody watches."""

    def ended(self, unit: Any, result: Any) -> None:
        """Nobody watches."""


def _failure(work: Work) -> Failure:
    return Failure(
        story_id=work.unit.story_id,
        stage=work.unit.stage,
        unit_id=work.unit.name,
        error_class="exception",
        message="planted",
        attempts=3,
        worker="inline",
        source_file="",
        source_row=0,
    )


def _storyboard(output: Output, work: Work) -> tuple[Storyboard, ...]:
    story_id = work.unit.story_id
    panels = tuple(
        Panel(
            story_id=story_id,
            keyframe_index=i,
            panel_index=i,
            beat=0,
            prompt=f"panel {i}",
            negative_prompt="",
            caption="",
            characters=(),
            seed=i,
            splitter="rules",
            warnings=(),
        )
        for i in range(PANELS)
    )
    shots = tuple(
        Shot(
            story_id=story_id,
            shot_index=i,
            kind=ShotKind.MOTION,
            text="",
            negative_prompt="",
            seed=i,
            num_frames=4,
        )
        for i in range(PANELS - 1)
    )
    return (Storyboard(story_id=story_id, panels=panels, shots=shots),)


def _keyframes(output: Output, work: Work) -> tuple[Keyframe, ...]:
    made = []
    for panel in work.argument.panels:
        path = f"keyframes/{panel.story_id}/{panel.keyframe_index:04d}.png"
        file = output.publish(path, f"picture {path}".encode())
        made.append(
            Keyframe(
                story_id=panel.story_id,
                keyframe_index=panel.keyframe_index,
                path=path,
                size=file.size,
                sha256=file.sha256,
                width=8,
                height=8,
                seed=1,
            )
        )
    return tuple(made)


def _clip(output: Output, work: Work) -> tuple[Clip, ...]:
    shot = work.argument.shot
    path = f"clips/{shot.story_id}/{shot.shot_index:04d}.mkv"
    file = output.publish(path, f"clip {path}".encode())
    return (
        Clip(
            story_id=shot.story_id,
            shot_index=shot.shot_index,
            kind=shot.kind,
            path=path,
            size=file.size,
            sha256=file.sha256,
            num_frames=4,
            width=8,
            height=8,
            seed=1,
            endpoint_closeness=1.0,
            endpoint_jump=1.0,
        ),
    )


def _film(output: Output, work: Work) -> tuple[Film, ...]:
    base = f"films/{work.unit.story_id}"
    video, text = (
        output.publish(f"{base}.{end}", f"{end} of {base}".encode()) for end in ("mp4", "srt")
    )
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    sheet = output.publish(f"{base}.png", picture.getvalue())
    return (
        Film(
            story_id=work.unit.story_id,
            path=video.path,
            size=video.size,
            sha256=video.sha256,
            subtitles_path=text.path,
            subtitles_size=text.size,
            subtitles_sha256=text.sha256,
            sheet_path=sheet.path,
            sheet_size=sheet.size,
            sheet_sha256=sheet.sha256,
            num_frames=7,
            fps=8,
            duration_s=7 / 8,
            width=8,
            height=8,
        ),
    )


MAKERS: Mapping[str, Callable[[Output, Work], tuple[Any, ...]]] = {
    "prompts": _storyboard,
    "keyframes": _keyframes,
    "motion": _clip,
    "films": _film,
}
