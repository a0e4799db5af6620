"""Captions as subtitle cues, for an .srt file and for the subtitle track of the film."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

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
    """Make one cue for each run of equal captions; it ends where the next one begins.

    Empty captions make no cue.

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
        Cue(start_ms=_ms(start, fps), end_ms=_ms(end, fps), text=texts[run[0]])
        for run, start, end in zip(runs, bounds[:-1], bounds[1:], strict=True)
        if texts[run[0]]
    ]


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


def _timestamp(ms: int) -> str:
    seconds, ms = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d},{ms:03d}"


def to_sample(cue: Cue) -> bytes:
    """Encode a cue as a sample of MPEG-4 timed text (libav: mov_text)."""
    text = cue.text.encode()
    return len(text).to_bytes(2, "big") + text
