"""Captions as subtitle cues, for an .srt file and for the subtitle track of the film."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

from storyreel.stages.captions import reading_s, split_caption

MAX_CUE_BYTES = 0xFFFF
"""Maximum length: a sample of MPEG-4 timed text (3GPP TS 26.245) has a 16-bit length field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cue:
    """A text that is shown from `start_ms` to `end_ms`, in milliseconds from the film's start."""

    start_ms: int
    end_ms: int
    text: str


def make_cues(
    captions: Sequence[str], starts: Sequence[int], num_frames: int, fps: int
) -> list[Cue]:
    """Make cues for each run of equal captions; the last ends where the next caption begins.

    A caption of more than two lines is shown in parts. Empty captions make no cue.

    Args:
        captions: the caption of each keyframe.
        starts: the index of the film frame at which each of them begins.
        num_frames: the length of the film, in frames.
        fps: frames per second.

    Raises:
        ValueError: a caption is longer than `MAX_CUE_BYTES`.
    """
    texts = [_cue_text(caption) for caption in captions]
    runs = [list(run) for _, run in groupby(range(len(texts)), key=texts.__getitem__)]
    bounds = [*(starts[run[0]] for run in runs), num_frames]
    return [
        cue
        for run, start, end in zip(runs, bounds[:-1], bounds[1:], strict=True)
        for cue in _parts(texts[run[0]], _ms(start, fps), _ms(end, fps))
    ]


def _parts(text: str, start_ms: int, end_ms: int) -> Iterator[Cue]:
    """The parts of a caption; each is shown for its share of the time."""
    parts = split_caption(text)
    shares = list(accumulate((reading_s(part) for part in parts), initial=0.0))
    ends = [start_ms + round((end_ms - start_ms) * share / shares[-1]) for share in shares if parts]
    for part, start, end in zip(parts, ends, ends[1:], strict=False):
        yield Cue(start_ms=start, end_ms=end, text=part)


def _ms(frame: int, fps: int) -> int:
    return round(1000 * frame / fps)


def _cue_text(caption: str) -> str:
    """Remove from a caption what would end a cue of an .srt file: empty lines, arrows, controls."""
    printable = re.sub(r"[\x00-\x08\x0e-\x1b\x1f\x7f]", " ", caption)
    lines = (" ".join(line.split()) for line in printable.splitlines())
    text = re.sub(r"-{2,}>", "->", "\n".join(filter(None, lines)))
    if len(text.encode()) > MAX_CUE_BYTES:
        raise ValueError(
            f"caption {text[:20]!r}...: {len(text.encode())} bytes, must be at most {MAX_CUE_BYTES}"
        )
    return text


def to_srt(cues: Sequence[Cue]) -> str:
    """Format cues as the text of an .srt file."""
    return "".join(
        f"{number}\n{_timestamp(cue.start_ms)} --> {_timestamp(cue.end_ms)}\n{cue.text}\n\n"
        for number, cue in enumerate(cues, start=1)
    )


def to_vtt(cues: Sequence[Cue]) -> str:
    """Format cues as the text of a .vtt file, which web pages show."""
    return "WEBVTT\n\n" + "".join(
        f"{_timestamp(cue.start_ms, '.')} --> {_timestamp(cue.end_ms, '.')}\n"
        f"{_escaped(cue.text)}\n\n"
        for cue in cues
    )


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _timestamp(ms: int, sign: str = ",") -> str:
    seconds, ms = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{sign}{ms:03d}"


def to_sample(cue: Cue) -> bytes:
    """Encode a cue as a sample of MPEG-4 timed text (libav: mov_text)."""
    text = cue.text.encode()
    return len(text).to_bytes(2, "big") + text
