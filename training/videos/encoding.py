"""Clips of indexed videos through the frozen models, kept as safetensors shards.

A shard holds the clips of some neighbouring videos of the index: `tokens` (n, F, N, C) of the image
encoder and, where a video model learns, `latents` (n, F, c, h, w), both float16.

Axes: n clips of a shard, F frames, N tokens, C their channels, c channels of latents, h and w their
height and width.
"""

import bisect
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from storyreel.training import parallel
from storyreel.training.videos.config import VideosConfig
from storyreel.training.videos.index import IndexedVideo
from storyreel.training.videos.reading import Pixels, read_frames, square

logger = logging.getLogger(__name__)

Encode = Callable[[Pixels], Mapping[str, Tensor]]
"""Frames (F, H, W, 3) of a clip to what is kept of it, each (F, ...)."""


def read_clips(video: IndexedVideo, config: VideosConfig) -> Iterator[Pixels]:
    """The clips (F, size, size, 3) of a video, which is decoded once for all of them."""
    ends = {start + config.num_frames: start for start in video.starts}
    held: list[Pixels] = []
    for index, frame in enumerate(read_frames(video.url, config.fps), start=1):
        held = [*held, square(frame, config.size)][-config.num_frames :]
        if index in ends:
            yield np.stack(held)
        if index == max(ends):
            return


def shards_of(videos: Sequence[IndexedVideo], config: VideosConfig) -> list[list[IndexedVideo]]:
    """The videos with clips, `videos_per_shard` together."""
    usable = [video for video in videos if video.starts]
    step = config.videos_per_shard
    return [usable[start : start + step] for start in range(0, len(usable), step)]


def encode_shards(
    shards: Sequence[Sequence[IndexedVideo]], folder: Path, config: VideosConfig, encode: Encode
) -> list[Path]:
    """Write the shards that are missing; every process takes its share of them.

    Returns:
        The files of all shards, in order, when every process is done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"clips-{index:05d}.safetensors" for index in range(len(shards))]
    for index in range(parallel.rank(), len(shards), parallel.world_size()):
        if not paths[index].exists():
            _encode_shard(shards[index], paths[index], config, encode)
            logger.info("encoded %s, %d of %d", paths[index].name, index + 1, len(shards))
    parallel.wait()
    return paths


def _encode_shard(
    videos: Iterable[IndexedVideo], path: Path, config: VideosConfig, encode: Encode
) -> None:
    kept: dict[str, list[Tensor]] = {}
    captions: list[str] = []
    for video in videos:
        for clip in read_clips(video, config):
            captions.append(video.caption)
            for name, tensor in encode(clip).items():
                kept.setdefault(name, []).append(tensor.half().cpu())
    temporary = path.with_name(f"partial-{path.name}")
    tensors = {name: torch.stack(clips).contiguous() for name, clips in kept.items()}
    save_file(tensors, temporary, metadata={"captions": json.dumps(captions)})
    temporary.replace(path)


class _Indexed(Protocol):
    def __getitem__(self, index: Any) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class _Shard:
    rows: _Indexed
    shape: tuple[int, ...]


class ShardedRows:
    """One tensor of all shards, read from the files row by row; see `Rows`."""

    def __init__(self, paths: Sequence[Path], name: str) -> None:
        self._shards = [_open(path, name) for path in paths]
        self._ends = list(accumulate(shard.shape[0] for shard in self._shards))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all rows."""
        return (self._ends[-1], *self._shards[0].shape[1:])

    def __getitem__(self, index: Any) -> Tensor:
        """Rows at indices (n,) or in a slice, perhaps with a span of the second axis."""
        rows, *spans = index if isinstance(index, tuple) else (index,)
        chosen = range(self._ends[-1])[rows] if isinstance(rows, slice) else rows.tolist()
        with torch.autocast("cpu", enabled=False):  # which cannot stack float16
            return torch.stack([self._row(row, *spans) for row in chosen])

    def _row(self, row: int, span: slice = slice(None)) -> Tensor:
        place = bisect.bisect_right(self._ends, row)
        first = self._ends[place] - self._shards[place].shape[0]
        return self._shards[place].rows[row - first : row - first + 1, span][0]


def _open(path: Path, name: str) -> _Shard:
    file: Any = safe_open(path, framework="pt")
    rows = file.get_slice(name)
    return _Shard(rows=rows, shape=tuple(rows.get_shape()))


def read_captions(paths: Sequence[Path]) -> list[list[str]]:
    """The caption of each clip of all shards, as the only wording of it."""
    captions: list[list[str]] = []
    for path in paths:
        with safe_open(path, framework="pt") as file:
            captions += [[caption] for caption in json.loads(file.metadata()["captions"])]
    return captions
