"""Lists the videos of a folder or a Parquet table, and the clips that lie between their cuts.

Every video is decoded once from end to end: what cannot be decoded is in the index with the reason.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import fsspec
import numpy as np
import pyarrow.parquet as pq

from storyreel.training.videos.config import VideosConfig
from storyreel.training.videos.reading import Pixels, read_frames, square

logger = logging.getLogger(__name__)

SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
THUMBNAIL = 32
"""Side of what neighbouring frames are compared by, in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """A video and its caption."""

    url: str
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedVideo:
    """What was found in a video.

    starts: the first frame of each clip, in frames at the configured rate.
    problem: why it has no clip; "" if it has.
    """

    url: str
    caption: str
    starts: tuple[int, ...]
    problem: str


def list_videos(url: str, config: VideosConfig) -> list[Video]:
    """The videos of a folder, in the order of their names, or of a Parquet table, in its order.

    Raises:
        ValueError: there is none, or the table lacks a column.
        OSError: it cannot be read.
    """
    videos = _of_table(url, config) if url.endswith(".parquet") else _of_folder(url)
    if not videos:
        raise ValueError(f"{url}: holds no video; allowed are {', '.join(SUFFIXES)}")
    return videos


def _of_folder(url: str) -> list[Video]:
    files, root = fsspec.core.url_to_fs(url)
    found = sorted(path for path in files.find(root) if path.lower().endswith(SUFFIXES))
    return [
        Video(url=files.unstrip_protocol(path), caption=_sidecar(files, path)) for path in found
    ]


def _sidecar(files: fsspec.AbstractFileSystem, path: str) -> str:
    beside = str(PurePosixPath(path).with_suffix(".txt"))
    if not files.exists(beside):
        return ""
    return " ".join(files.read_text(beside, encoding="utf-8").split())


def _of_table(url: str, config: VideosConfig) -> list[Video]:
    with fsspec.open(url, "rb") as file:
        table = pq.read_table(file)
    for column in (config.path_column, config.caption_column):
        if column not in table.column_names:
            raise ValueError(
                f"{url}: has no column {column!r}; it has {', '.join(table.column_names)}"
            )
    folder = url.rpartition("/")[0]
    rows = zip(
        table[config.path_column].to_pylist(), table[config.caption_column].to_pylist(), strict=True
    )
    return [Video(url=_absolute(folder, path), caption=caption or "") for path, caption in rows]


def _absolute(folder: str, path: str) -> str:
    return path if "://" in path or path.startswith("/") or not folder else f"{folder}/{path}"


def index_videos(videos: Iterable[Video], config: VideosConfig) -> Iterator[IndexedVideo]:
    """Decode every video and find its clips; one that cannot be used has a problem, no clip."""
    for video in videos:
        starts: tuple[int, ...] = ()
        problem = ""
        try:
            starts = find_clips(read_frames(video.url, config.fps), config)
            if not starts:
                problem = f"has no {config.num_frames} frames between two cuts"
        except (OSError, ValueError) as error:
            problem = str(error)
        if problem:
            logger.warning("%s: %s; it is left out", video.url, problem)
        yield IndexedVideo(url=video.url, caption=video.caption, starts=starts, problem=problem)


def find_clips(frames: Iterable[Pixels], config: VideosConfig) -> tuple[int, ...]:
    """The first frames of clips that follow each other and hold no cut."""
    starts, start, before = [], 0, None
    for index, frame in enumerate(frames):
        small = square(frame, THUMBNAIL).astype(np.int16)
        if before is not None and np.abs(small - before).mean() > config.cut_threshold:
            start = index
        before = small
        if index - start + 1 == config.num_frames:
            starts.append(start)
            start = index + 1
        if len(starts) == config.max_clips_per_video:
            break
    return tuple(starts)
