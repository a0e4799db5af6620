import dataclasses
import io
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from storyreel.stages.films.config import FilmsConfig, Preset
from storyreel.stages.films.stage import FilmsStage, FilmUnit
from storyreel.stages.motion.frames import cut, dissolve, hold
from storyreel.stages.output.manifests import Shard, manifest_path, write_manifest
from storyreel.stages.output.records import Clip, Film, Keyframe, Panel, Shot, ShotKind, Storyboard
from storyreel.stages.output.storage import Output
from storyreel.stages.video import write_clip

SHARD = Shard(index=0, count=1)


@dataclasses.dataclass
class Job:
    """An output with the real files and manifests of the stages before."""

    folder: Path
    panels: list[Panel] = dataclasses.field(default_factory=list)
    shots: list[Shot] = dataclasses.field(default_factory=list)
    keyframes: list[Keyframe] = dataclasses.field(default_factory=list)
    clips: list[Clip] = dataclasses.field(default_factory=list)

    @property
    def output(self) -> Output:
        return Output(str(self.folder))

    def add_story(
        self,
        story_id: str,
        captions: list[str],
        frames_per_shot: list[int],
        size: tuple[int, int] = (32, 32),
    ) -> None:
        width, height = size
        images = [picture(5 * k, width, height) for k in range(len(captions))]
        for k, (caption, image) in enumerate(zip(captions, images, strict=True)):
            self.panels.append(panel(story_id, k, caption))
            self.keyframes.append(self._keyframe(story_id, k, image))
        for i, num_frames in enumerate(frames_per_shot):
            frames = between(images[i], images[i + 1], num_frames)
            self.shots.append(shot(story_id, i, num_frames))
            self.clips.append(self._clip(story_id, i, frames))

    def add_board(self, board: Storyboard) -> None:
        """Add what the stages after the prompts make of a storyboard, each keyframe 5 brighter."""
        images = [picture(5 * panel.keyframe_index, 32, 32) for panel in board.panels]
        self.panels += board.panels
        self.shots += board.shots
        for k, image in enumerate(images):
            self.keyframes.append(self._keyframe(board.story_id, k, image))
        for shot, (first, last) in zip(board.shots, pairwise(images), strict=True):
            clip = self._clip(board.story_id, shot.shot_index, shot_frames(shot, first, last))
            self.clips.append(dataclasses.replace(clip, kind=shot.kind))

    def seal(self) -> None:
        for table, record, rows in (
            ("panels", Panel, self.panels),
            ("shots", Shot, self.shots),
            ("keyframes", Keyframe, self.keyframes),
            ("clips", Clip, self.clips),
        ):
            write_manifest(self.output, manifest_path(table, SHARD), record, rows, fingerprint="")

    def film(self, story_id: str, **settings: object) -> Film:
        self.seal()
        config = FilmsConfig.model_validate(
            {"width": 32, "height": 32, "preset": Preset.ULTRAFAST, "still_s": 0.125, **settings}
        )
        stage = FilmsStage(output_url=str(self.folder), config=config)
        (film,) = stage(FilmUnit(story_id=story_id, shard=SHARD, fingerprint="f1n9e4"))
        return film

    def replace_clip(self, index: int, frames: np.ndarray) -> None:
        """Put other frames under a clip's name, with the record's checksum made to agree."""
        new = self._clip(self.clips[index].story_id, self.clips[index].shot_index, frames)
        self.clips[index] = dataclasses.replace(self.clips[index], size=new.size, sha256=new.sha256)

    def _keyframe(self, story_id: str, k: int, image: np.ndarray) -> Keyframe:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format="PNG")
        file = self.output.publish(f"keyframes/{story_id}/{k:04d}.png", buffer.getvalue())
        return Keyframe(
            story_id=story_id,
            keyframe_index=k,
            width=image.shape[1],
            height=image.shape[0],
            seed=100 + k,
            path=file.path,
            size=file.size,
            sha256=file.sha256,
        )

    def _clip(self, story_id: str, index: int, frames: np.ndarray) -> Clip:
        local = self.folder.parent / "local.mkv"
        write_clip(local, frames, 8)
        file = self.output.publish_file(f"clips/{story_id}/{index:04d}.mkv", local)
        return Clip(
            story_id=story_id,
            shot_index=index,
            kind=ShotKind.MOTION,
            num_frames=frames.shape[0],
            height=frames.shape[1],
            width=frames.shape[2],
            seed=200 + index,
            endpoint_closeness=1.0,
            endpoint_jump=1.0,
            path=file.path,
            size=file.size,
            sha256=file.sha256,
        )


def panel(story_id: str, k: int, caption: str) -> Panel:
    return Panel(
        story_id=story_id,
        keyframe_index=k,
        panel_index=k,
        beat=0,
        prompt="a prompt",
        negative_prompt="",
        caption=caption,
        characters=(),
        seed=100 + k,
        splitter="rules",
        warnings=(),
    )


def shot(story_id: str, i: int, num_frames: int) -> Shot:
    return Shot(
        story_id=story_id,
        shot_index=i,
        kind=ShotKind.MOTION,
        text="",
        negative_prompt="",
        seed=200 + i,
        num_frames=num_frames,
    )


def picture(brightness: int, width: int, height: int) -> np.ndarray:
    """Left half red, right half gray that tells the time."""
    image = np.full((height, width, 3), 40 + brightness, np.uint8)
    image[:, : width // 2] = (200, 20, 20)
    return image


def between(first: np.ndarray, last: np.ndarray, num_frames: int) -> np.ndarray:
    steps = np.linspace(0.0, 1.0, num_frames)[:, None, None, None]
    return np.round(first + steps * (last.astype(float) - first)).astype(np.uint8)


def shot_frames(shot: Shot, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    match shot.kind:
        case ShotKind.CUT:
            return cut(first, last)
        case ShotKind.HOLD:
            return hold(first, last, shot.num_frames)
        case ShotKind.DISSOLVE:
            return dissolve(first, last, shot.num_frames)
        case ShotKind.MOTION:
            return between(first, last, shot.num_frames)


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def cues_of(path: Path) -> list[tuple[int, int, str]]:
    """(start, duration, text) of each subtitle, in milliseconds."""
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[0]
        return [
            (packet.pts, packet.duration, text.dialogue.decode())
            for packet in container.demux(stream)
            if packet.size
            for text in packet.decode()
        ]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path / "output")
