"""The frames of a film, decoded from the clips one at a time and checked against the records."""

from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import numpy as np

from storyreel.stages.films.rendered_stories import RenderedStory, naming
from storyreel.stages.output.records import Clip, File
from storyreel.stages.output.storage import Output
from storyreel.stages.pictures import read_picture
from storyreel.stages.video import read_clip


def film_frames(
    output: Output, story: RenderedStory, *, folder: Path, still_frames: int
) -> Iterator[np.ndarray]:
    """Iterate over the frames of a film, uint8 (H, W, 3) in RGB; a shared keyframe comes once.

    Args:
        output: holds the clips and keyframes.
        story: the records of the story.
        folder: a local folder for the file of the current clip.
        still_frames: number of frames for which the last keyframe is shown, at least 1.

    Raises:
        ValueError: a keyframe or a clip is missing, damaged or differs from its record, or a clip
            does not begin and end with its keyframes.
    """
    images = _keyframe_images(output, story)
    last = next(images)
    yield last
    for clip, image in zip(story.clips, images, strict=True):
        first, last = last, image
        with naming(f"story {story.story_id}: shot {clip.shot_index}"):
            for index, frame in enumerate(clip_frames(output, clip, folder)):
                _check_keyframe(clip, index, frame, first, last)
                if index > 0:
                    yield frame
    yield from repeat(last, still_frames - 1)


def _keyframe_images(output: Output, story: RenderedStory) -> Iterator[np.ndarray]:
    for keyframe in story.keyframes:
        with naming(f"story {story.story_id}: keyframe {keyframe.keyframe_index}"):
            yield read_picture(output, keyframe, *story.size)


def clip_frames(output: Output, clip: Clip, folder: Path) -> Iterator[np.ndarray]:
    """Iterate over the frames of a clip, uint8 (H, W, 3) in RGB, its keyframes included.

    Args:
        output: holds the clip.
        clip: its record.
        folder: a local folder for the clip's file; libav needs a real file.

    Raises:
        ValueError: the clip is missing, damaged or differs from its record; raised at the first
            wrong frame, after those before it.
    """
    local = folder / "clip.mkv"
    file = File(path=clip.path, size=clip.size, sha256=clip.sha256)
    local.write_bytes(output.read_checked(file))
    count = 0
    for count, frame in enumerate(read_clip(local), start=1):
        if count > clip.num_frames or frame.shape != (clip.height, clip.width, 3):
            height, width = frame.shape[:2]
            raise ValueError(
                f"{clip.path}: frame {count - 1} has {width} x {height} pixels, must be one of"
                f" {clip.num_frames} frames of {clip.width} x {clip.height}"
            )
        yield frame
    local.unlink()
    if count != clip.num_frames:
        raise ValueError(f"{clip.path}: has {count} frames, must have {clip.num_frames}")


def _check_keyframe(
    clip: Clip, index: int, frame: np.ndarray, first: np.ndarray, last: np.ndarray
) -> None:
    """Compare the first and the last frame of a clip with the pictures of its keyframes."""
    expected = {0: first, clip.num_frames - 1: last}.get(index)
    if expected is not None and not np.array_equal(frame, expected):
        keyframe = clip.shot_index + (index > 0)
        raise ValueError(f"{clip.path}: frame {index} is not equal to keyframe {keyframe}")
