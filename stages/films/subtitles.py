"""Captions become cues: for an .srt file, and for a soft track inside the film."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

MAX_CUE_BYTES = 0xFFFF
"""A sample of MPEG-4 timed text gives its length in two bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cue:
    """A text on the screen from `start_ms` to `end_ms`, in milliseconds of the film."""

    start_ms: int
    end_ms: int
    text: str


def make_cues(
    captions: Sequence[str], starts: Sequence[int], num_frames: int, fps: int
) -> list[Cue]:
    """One cue for each run of equal captions, to the next one; an empty caption shows nothing.

    Args:
        captions: the caption of each keyframe.
        starts: the film frame at which each of them begins.
        num_frames: the length of the film, in frames.
        fps: frames per second.

    Raises:
        ValueError: a caption is longer than a cue can be.
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
    """The lines of a caption, without what would end a cue: empty lines, arrows, controls."""
    printable = re.sub(r"[\x00-\x08\x0e-\x1b\x1f\x7f]", " ", caption)
    lines = (" ".join(line.split()) for line in printable.splitlines())
    text = re.sub(r"-{2,}>", "->", "\n".join(filter(None, lines)))
    if len(text.encode()) > MAX_CUE_BYTES:
        raise ValueError(
            f"caption {text[:20]!r}...: {len(text.encode())} bytes, must be at most {MAX_CUE_BYTES}"
        )
    return text


def to_srt(cues: Sequence[Cue]) -> str:
    """The cues as the text of an .srt file."""
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
    """The cue as a sample of MPEG-4 timed text (mov_text)."""
    text = cue.text.encode()
    return len(text).to_bytes(2, "big") + text
