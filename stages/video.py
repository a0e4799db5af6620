"""Video files: writes and reads lossless clips, and checks finished films.

A clip is FFV1 in Matroska. Equal frames give equal bytes. The file contains a checksum of its
pixels, because FFmpeg's FFV1 decoder conceals damaged slices without an error.
"""

import hashlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.codec.context import Flags
from av.container import InputContainer, OutputContainer
from av.video.stream import VideoStream

CHECKSUM_TAG = "PIXELS_SHA256"
ENCODER = {"level": "3", "slicecrc": "1", "threads": "1"}


def write_clip(path: Path, frames: np.ndarray, fps: int) -> None:
    """Write frames, uint8 (F, H, W, 3) in RGB with F >= 1, as a lossless video file.

    Raises:
        ValueError: `frames` has another shape or dtype.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or not frames.size:
        found = f"{frames.dtype} {frames.shape}"
        raise ValueError(f"{path}: frames are {found}, must be uint8 (F, H, W, 3), F >= 1")
    pixels = _PixelChecksum()
    for frame in frames:
        pixels.add(frame)
    options = {"fflags": "+bitexact"}
    with av.open(str(path), "w", format="matroska", options=options) as container:
        container.metadata[CHECKSUM_TAG] = pixels.hexdigest()
        _encode(container, _clip_stream(container, frames, fps), frames)


def _clip_stream(container: OutputContainer, frames: np.ndarray, fps: int) -> VideoStream:
    stream = container.add_stream("ffv1", rate=fps, options=ENCODER)
    stream.height, stream.width = frames.shape[1:3]
    stream.pix_fmt = "bgr0"
    stream.codec_context.flags |= Flags.bitexact
    return stream


def _encode(container: OutputContainer, stream: VideoStream, frames: np.ndarray) -> None:
    for index, pixels in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame = frame.reformat(format=stream.pix_fmt, threads=1)
        frame.pts, frame.time_base = index, 1 / Fraction(stream.codec_context.framerate)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def read_clip(path: Path) -> Iterator[np.ndarray]:
    """Yield the frames of a clip, each uint8 (H, W, 3) in RGB.

    Raises:
        ValueError: the file is damaged. If only the checksum shows it, the error is raised after
            the last frame.
    """
    checksum = _PixelChecksum()
    try:
        with av.open(str(path)) as container:
            written = container.metadata.get(CHECKSUM_TAG)
            for frame in container.decode(_video(container)):
                pixels = frame.to_ndarray(format="rgb24")
                checksum.add(pixels)
                yield pixels
    except av.FFmpegError as error:
        raise ValueError(f"{path}: damaged: {error.strerror}") from error
    if checksum.hexdigest() != written:
        raise ValueError(f"{path}: damaged: the {checksum.count} frames are not those written")


def check_film(path: Path) -> int:
    """Decode a whole film and return its number of frames.

    Raises:
        ValueError: decoding fails, or yields fewer frames than the header announces.
    """
    try:
        with av.open(str(path)) as container:
            stream = _video(container)
            stream.codec_context.options = {"err_detect": "explode"}
            frames = sum(1 for _ in container.decode(stream))
            announced = stream.frames
    except av.FFmpegError as error:
        raise ValueError(f"{path}: damaged: {error.strerror}") from error
    if frames != announced:
        raise ValueError(f"{path}: damaged: {frames} of {announced} frames can be decoded")
    return frames


def _video(container: InputContainer) -> VideoStream:
    if not container.streams.video:
        raise ValueError(f"{container.name}: damaged: contains no video stream")
    return container.streams.video[0]


class _PixelChecksum:
    """Computes a sha256 over the shapes and pixels of consecutive frames."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self.count = 0

    def add(self, frame: np.ndarray) -> None:
        self._digest.update(str(frame.shape).encode())
        self._digest.update(np.ascontiguousarray(frame).data)
        self.count += 1

    def hexdigest(self) -> str:
        return self._digest.hexdigest()
