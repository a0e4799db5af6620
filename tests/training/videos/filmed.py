"""Tiny real videos."""

from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np

from storyreel.training.videos.reading import Pixels


def moving(num_frames: int, *, seed: int = 0) -> list[Pixels]:
    """A bright square that wanders over a dark picture."""
    rng = np.random.default_rng(seed)
    start, way = rng.integers(0, 8, 2), rng.integers(-1, 2, 2)
    frames = []
    for index in range(num_frames):
        frame = np.full((32, 32, 3), 20, dtype=np.uint8)
        top, left = (start + index * way) % 24
        frame[top : top + 8, left : left + 8] = (200, 60 + 20 * (seed % 5), 90)
        frames.append(frame)
    return frames


def write_video(path: Path, frames: Iterable[Pixels], *, fps: int) -> None:
    """Write frames as H.264."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "10", "threads": "1"})
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
