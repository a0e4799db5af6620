"""Simulated stages for benchmarks and tests: they sleep and write tiny files, in the real flow.

All the rest is the product's own code: pools, actors, commit records, manifests, Prefect flow,
lock, control record. The stages do not import torch, so that many actors fit on one machine. Their
files are real but small: PNG keyframes, lossless clips, films with the right number of frames.
"""

import io
import json
import math
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from PIL import Image

from storyreel.flows.job.config import RenderConfig
from storyreel.flows.job.stage_table import StageTable
from storyreel.flows.job.stages import STAGES
from storyreel.stages.output.manifests import Shard, manifest_path, read_manifest, write_manifest
from storyreel.stages.output.records import (
    Clip,
    Failure,
    File,
    Film,
    Keyframe,
    Panel,
    PanelInput,
    Shot,
    ShotKind,
    Story,
    Storyboard,
)
from storyreel.stages.output.storage import Output
from storyreel.stages.seeds import derive_seed
from storyreel.stages.units import FilmUnit, KeyframesUnit, MotionUnit, StageFactory
from storyreel.stages.video import write_clip

SIZE = 8
"""Side of keyframes, clips and films, pixels."""

FRAMES_PER_SHOT = 4
FPS = 8

SPREAD = 0.3
"""Standard deviation of the logarithm of a unit's length."""

SECONDS_PER_ITEM = {"prompts": 0.01, "keyframes": 0.25, "motion": 0.25, "films": 0.005}
"""Mean lengths: of a story to split, a panel, a frame of motion, a frame of a film."""

CONFIG = f"""
[prompts]
[keyframes]
width = {SIZE}
height = {SIZE}
[keyframes.model]
path = "models/pocket"
[motion]
num_frames = {FRAMES_PER_SHOT}
[motion.model]
path = "models/pocket"
[films]
width = 64
height = 64
fps = {FPS}
[execution]
poll_s = 0.5
[pools.render]
num_actors = 2
num_cpus = 0.01
[pools.assembly]
num_actors = 1
num_cpus = 0.01
"""
"""A configuration for it; the models are named, for the job's record, and never loaded."""


def make_rows(num_stories: int) -> Iterator[str]:
    """Input rows (JSONL) of stories of 3 to 9 sentences, the same every time."""
    chance = random.Random(0)  # noqa: S311, no secret
    for index in range(num_stories):
        sentences = [f"The fox sees thing {n}." for n in range(chance.randint(3, 9))]
        yield json.dumps({"story_id": f"s{index:06d}", "text": " ".join(sentences)})


def stage_table(*, speed: float = 1.0) -> StageTable:
    """The simulated stages, `speed` times faster than `SECONDS_PER_ITEM` says."""
    classes = {
        "prompts": SimulatedPrompts,
        "keyframes": SimulatedKeyframes,
        "motion": SimulatedMotion,
        "films": SimulatedFilms,
    }

    def factory(simulated: type) -> Callable[[str, RenderConfig], StageFactory]:
        return lambda url, _config: partial(simulated, output_url=url, speed=speed)

    return STAGES.with_factories({name: factory(cls) for name, cls in classes.items()})


def seconds_of(stage: str, num_items: int, *name: str | int) -> float:
    """The duration of a unit: log-normal around its items' mean, seeded by its name."""
    chance = random.Random(derive_seed(stage, *name))  # noqa: S311, no secret
    noise = math.exp(chance.gauss(-(SPREAD**2) / 2, SPREAD))
    return SECONDS_PER_ITEM[stage] * num_items * noise


class SimulatedPrompts:
    """Makes every sentence, or every written panel, a panel."""

    def __init__(self, *, output_url: str, speed: float) -> None:
        del output_url  # publishes no file; all simulated stages are constructed alike
        self._speed = speed

    def __call__(self, story: Story) -> tuple[Storyboard]:
        """The storyboard of a story."""
        time.sleep(seconds_of("prompts", 1, story.story_id) / self._speed)
        written = story.panels or _sentences(story.text or "")
        panels = tuple(_panel(story, index, one) for index, one in enumerate(written))
        shots = tuple(_shot(story, index, one) for index, one in enumerate(written[:-1]))
        return (Storyboard(story_id=story.story_id, panels=panels, shots=shots),)


class SimulatedKeyframes:
    """Writes a picture of one colour for every panel."""

    def __init__(self, *, output_url: str, speed: float) -> None:
        self._output = Output(output_url)
        self._speed = speed

    def __call__(self, unit: KeyframesUnit) -> tuple[Keyframe, ...]:
        """The keyframes of a story."""
        time.sleep(seconds_of("keyframes", len(unit.panels), unit.story_id) / self._speed)
        return tuple(self._write(panel) for panel in unit.panels)

    def _write(self, panel: Panel) -> Keyframe:
        png = io.BytesIO()
        colour = _colour(derive_seed(panel.seed, panel.prompt))
        Image.new("RGB", (SIZE, SIZE), colour).save(png, "PNG")
        path = f"keyframes/{panel.story_id}/{panel.keyframe_index:04d}.png"
        return keyframe_of(panel, self._output.publish(path, png.getvalue()))


class SimulatedMotion:
    """Writes a clip of one colour for every shot."""

    def __init__(self, *, output_url: str, speed: float) -> None:
        self._output = Output(output_url)
        self._speed = speed

    def __call__(self, unit: MotionUnit) -> tuple[Clip]:
        """The clip of a shot."""
        shot = unit.shot
        length = seconds_of("motion", shot.num_frames, shot.story_id, shot.shot_index)
        time.sleep(length / self._speed)
        path = f"clips/{shot.story_id}/{shot.shot_index:04d}.mkv"
        frames = np.full((shot.num_frames, SIZE, SIZE, 3), _colour(shot.seed), dtype=np.uint8)
        return (clip_of(shot, publish_video(self._output, path, frames, FPS)),)


class SimulatedFilms:
    """Writes a film of one colour, as long as the story's clips in the manifest."""

    def __init__(self, *, output_url: str, speed: float) -> None:
        self._output = Output(output_url)
        self._speed = speed
        self._frames = lru_cache(maxsize=2)(self._read_frames)

    def __call__(self, unit: FilmUnit) -> tuple[Film]:
        """The film of a story."""
        num_frames = 1 + self._frames(unit.shard).get(unit.story_id, 0)
        time.sleep(seconds_of("films", num_frames, unit.story_id) / self._speed)
        base = f"films/{unit.story_id}"
        frames = np.zeros((num_frames, SIZE, SIZE, 3), dtype=np.uint8)
        film = publish_video(self._output, f"{base}.mp4", frames, FPS)
        subtitles = self._output.publish(f"{base}.srt", b"1\n00:00:00,000 --> 00:00:01,000\nFox\n")
        png = io.BytesIO()
        Image.new("RGB", (SIZE, SIZE)).save(png, "PNG")
        sheet = self._output.publish(f"{base}.png", png.getvalue())
        return (film_of(unit.story_id, num_frames, (film, subtitles, sheet)),)

    def _read_frames(self, shard: Shard) -> dict[str, int]:
        """Frames of each story's clips, the first keyframe left out."""
        frames: dict[str, int] = {}
        for clip in read_manifest(self._output, manifest_path("clips", shard), Clip):
            frames[clip.story_id] = frames.get(clip.story_id, 0) + clip.num_frames - 1
        return frames


def _sentences(text: str) -> tuple[PanelInput, ...]:
    parts = (part.strip() for part in text.split("."))
    return tuple(
        PanelInput(text=part, caption=None, shot=ShotKind.MOTION, beats=None)
        for part in parts
        if part
    )


def _panel(story: Story, index: int, written: PanelInput) -> Panel:
    cast = "".join(f", {character.description}" for character in story.characters)
    return Panel(
        story_id=story.story_id,
        keyframe_index=index,
        panel_index=index,
        beat=0,
        prompt=written.text + cast,
        negative_prompt="",
        caption=written.caption or written.text,
        characters=(),
        seed=derive_seed(story.story_id, story.seed, "panel", index),
        splitter="rules",
        warnings=(),
    )


def _shot(story: Story, index: int, written: PanelInput) -> Shot:
    return Shot(
        story_id=story.story_id,
        shot_index=index,
        kind=written.shot,
        text=written.text,
        negative_prompt="",
        seed=derive_seed(story.story_id, story.seed, "shot", index),
        num_frames=FRAMES_PER_SHOT,
    )


def keyframe_of(panel: Panel, file: File) -> Keyframe:
    """The record of a panel's keyframe."""
    return Keyframe(
        story_id=panel.story_id,
        keyframe_index=panel.keyframe_index,
        path=file.path,
        size=file.size,
        sha256=file.sha256,
        width=SIZE,
        height=SIZE,
        seed=panel.seed,
    )


def clip_of(shot: Shot, file: File) -> Clip:
    """The record of a shot's clip."""
    return Clip(
        story_id=shot.story_id,
        shot_index=shot.shot_index,
        kind=shot.kind,
        path=file.path,
        size=file.size,
        sha256=file.sha256,
        num_frames=shot.num_frames,
        width=SIZE,
        height=SIZE,
        seed=shot.seed,
        endpoint_closeness=1.0,
        endpoint_jump=1.0,
    )


def film_of(story_id: str, num_frames: int, files: Sequence[File] = ()) -> Film:
    """The record of a film; without `files` (video, subtitles, sheet) it names ones not there."""
    paths = (f"films/{story_id}.{suffix}" for suffix in ("mp4", "srt", "png"))
    video, subtitles, sheet = files or [File(path=p, size=1, sha256="0" * 64) for p in paths]
    return Film(
        story_id=story_id,
        path=video.path,
        size=video.size,
        sha256=video.sha256,
        subtitles_path=subtitles.path,
        subtitles_size=subtitles.size,
        subtitles_sha256=subtitles.sha256,
        sheet_path=sheet.path,
        sheet_size=sheet.size,
        sheet_sha256=sheet.sha256,
        num_frames=num_frames,
        fps=FPS,
        duration_s=num_frames / FPS,
        width=SIZE,
        height=SIZE,
    )


def finish_shard(
    output: Output, shard: Shard, films: Sequence[Film], failures: Sequence[Failure] = ()
) -> None:
    """Write the manifests by which a shard counts as finished, without rendering it."""
    write_manifest(output, manifest_path("films", shard), Film, films, fingerprint="")
    write_manifest(output, manifest_path("failures", shard), Failure, failures, fingerprint="")


def publish_video(output: Output, path: str, frames: np.ndarray, fps: int) -> File:
    """Publish frames, uint8 (F, H, W, 3), as a lossless video."""
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / "video.mkv"
        write_clip(local, frames, fps)
        return output.publish_file(path, local)


def _colour(seed: int) -> tuple[int, int, int]:
    return seed % 256, seed // 256 % 256, seed // 65536 % 256
