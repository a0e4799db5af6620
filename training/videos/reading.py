"""Decodes videos on any file system, as a stream of frames at an even rate.

Axes: H height, W width; pixels are uint8 sRGB.
"""

from collections.abc import Iterator

import av
import fsspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


def read_frames(url: str, fps: int) -> Iterator[Pixels]:
    """Yield the frames (H, W, 3) of a video at `fps` frames a second, each the latest by then.

    Raises:
        ValueError: it is no video, is damaged, or has fewer frames a second.
        OSError: it cannot be read.
    """
    try:
        with fsspec.open(url, "rb") as file, av.open(file) as container:
            if not container.streams.video:
                raise ValueError("holds no video")
            stream = container.streams.video[0]
            rate = stream.average_rate
            if rate is not None and rate < fps * 0.99:
                raise ValueError(f"has {float(rate):.3g} frames a second, needed are {fps}")
            wanted = 0
            for frame in container.decode(stream):
                # A little early counts: times are multiples of the video's own clock.
                if frame.time is not None and frame.time * fps >= wanted - 0.01:
                    wanted += 1
                    yield frame.to_ndarray(format="rgb24")
    except av.FFmpegError as error:
        raise ValueError(f"cannot be decoded: {error}") from error


def square(frame: Pixels, size: int) -> Pixels:
    """The middle square of a frame, `size` pixels wide."""
    height, width, _ = frame.shape
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    middle = Image.fromarray(frame[top : top + side, left : left + side])
    return np.asarray(middle.resize((size, size), Image.Resampling.LANCZOS))
