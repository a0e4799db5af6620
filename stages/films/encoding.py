"""Encode frames to an H.264 film in MP4 with subtitles and metadata, one frame at a time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.codec.context import Flags
from av.container import OutputContainer
from av.subtitles.stream import SubtitleStream
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from PIL import Image, ImageOps

from storyreel.stages.films.burning import BurnedCaptions
from storyreel.stages.films.config import FilmsConfig, Fit
from storyreel.stages.films.subtitles import Cue, to_sample
from storyreel.stages.heartbeat import beat

BT709 = 1
"""The code of BT.709 for primaries and for the transfer function in ITU-T H.273."""
SECONDS_BETWEEN_SEEK_POINTS = 4
MILLISECONDS = Fraction(1, 1000)
SUBTITLE_STYLE = b"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, \
Bold, Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, \
Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,0

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """The metadata of a film."""

    title: str
    comment: str


def encode_film(
    path: Path,
    frames: Iterable[np.ndarray],
    *,
    cues: Sequence[Cue],
    label: Label,
    config: FilmsConfig,
) -> None:
    """Write a film; equal arguments give equal bytes.

    Args:
        path: the mp4 file to write.
        frames: uint8 (H, W, 3) in RGB each, of any size; only one is in memory at a time.
        cues: the subtitles in order of time; if empty, or drawn into the frames, the film has no
            subtitle track.
        label: the metadata.
        config: size, frame rate and encoder settings.
    """
    # faststart moves the index to the front, so that a browser plays before the end has come.
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with av.open(str(path), "w", format="mp4", options=options) as container:
        container.metadata.update({"title": label.title, "comment": label.comment})
        video = _video_stream(container, config)
        burned = BurnedCaptions(cues, config) if config.burn_captions else None
        if cues and burned is None:
            _mux_cues(container, _subtitle_stream(container), cues)
        for index, pixels in enumerate(frames):
            image = fit_to_film(pixels, config)
            if burned is not None:
                burned.write(image, index)
            frame = _to_yuv(image)
            frame.pts, frame.time_base = index, Fraction(1, config.fps)
            container.mux(video.encode(frame))
            beat()
        container.mux(video.encode())


def _video_stream(container: OutputContainer, config: FilmsConfig) -> VideoStream:
    options = {
        "crf": str(config.crf),
        "preset": config.preset.value,
        # x264 writes other bytes with another number of threads.
        "threads": str(config.encoder_threads),
    }
    stream = container.add_stream("libx264", rate=config.fps, options=options)
    stream.width, stream.height, stream.pix_fmt = config.width, config.height, "yuv420p"
    codec = stream.codec_context
    # Otherwise the stream names the encoder's version, and bytes change with an update.
    codec.flags |= Flags.bitexact
    # A player can only jump to an intra frame.
    codec.gop_size = SECONDS_BETWEEN_SEEK_POINTS * config.fps
    # Untagged video is guessed to be BT.601 below 720 lines, which shifts reds and greens.
    codec.color_range = ColorRange.MPEG
    codec.colorspace = codec.color_primaries = codec.color_trc = BT709
    return stream


def _subtitle_stream(container: OutputContainer) -> SubtitleStream:
    stream = container.add_stream("mov_text")
    assert isinstance(stream, SubtitleStream)
    stream.codec_context.subtitle_header = SUBTITLE_STYLE
    stream.codec_context.time_base = MILLISECONDS
    stream.time_base = MILLISECONDS
    return stream


def _mux_cues(container: OutputContainer, stream: SubtitleStream, cues: Sequence[Cue]) -> None:
    """Mux all cues before the first frame; the muxer interleaves them by time."""
    for cue in cues:
        packet = av.Packet(to_sample(cue))
        packet.stream, packet.time_base = stream, MILLISECONDS
        packet.pts = packet.dts = cue.start_ms
        packet.duration = cue.end_ms - cue.start_ms
        container.mux(packet)


def fit_to_film(pixels: np.ndarray, config: FilmsConfig) -> Image.Image:
    """Pad or crop a frame, uint8 (H, W, 3), to the size of the film; its aspect is kept."""
    image = Image.fromarray(pixels)
    size = (config.width, config.height)
    if config.fit is Fit.CROP:
        return ImageOps.fit(image, size, method=Image.Resampling.LANCZOS)
    return ImageOps.pad(image, size, method=Image.Resampling.LANCZOS, color=config.background)


def _to_yuv(image: Image.Image) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24").reformat(
        format="yuv420p",
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
        threads=1,
    )
