"""The panels, keyframes and clips of a story, from the manifests of its shard."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from storyreel.stages.output.manifests import Shard, manifest_path, read_manifest
from storyreel.stages.output.records import Clip, Keyframe, Panel, Shot, ShotKind
from storyreel.stages.output.storage import Output


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedStory:
    """A story with an image for each of its K panels and a clip for each of its K - 1 shots."""

    story_id: str
    panels: tuple[Panel, ...]
    shots: tuple[Shot, ...]
    keyframes: tuple[Keyframe, ...]
    clips: tuple[Clip, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the story's pictures: those of its clips, which are all alike."""
        shown = self.clips[0] if self.clips else self.keyframes[0]
        return shown.width, shown.height

    @property
    def ends_in_motion(self) -> bool:
        """True if the last shot is motion, so that the film ends with its last frame."""
        return bool(self.shots) and self.shots[-1].kind is ShotKind.MOTION

    def keyframe_times(self) -> list[int]:
        """The film frame at which each keyframe is first seen."""
        times = [0]
        for shot in self.shots:
            times.append(times[-1] + shot.num_frames - 1)
        return times

    def caption_times(self) -> list[int]:
        """The film frame at which the caption of each keyframe begins: with the keyframe.

        Where that is the film's last frame it begins halfway through the shot, to be readable.
        """
        times = self.keyframe_times()
        if self.ends_in_motion:
            times[-1] = (times[-2] + times[-1] + 1) // 2
        return times


class RenderedShard:
    """The records of a shard's stories."""

    def __init__(self, output: Output, shard: Shard) -> None:
        """Read the manifests of panels, shots, keyframes and clips.

        Raises:
            FileNotFoundError: one of them is not there.
            ValueError: one of them cannot be read.
        """
        self._panels = _by_story(output, shard, "panels", Panel)
        self._shots = _by_story(output, shard, "shots", Shot)
        self._keyframes = _by_story(output, shard, "keyframes", Keyframe)
        self._clips = _by_story(output, shard, "clips", Clip)

    def story(self, story_id: str) -> RenderedStory:
        """One story, complete and in order.

        Raises:
            ValueError: a panel, shot, keyframe or clip is not in its manifest, or does not fit.
        """
        with naming(f"story {story_id}"):
            return self._story(story_id)

    def _story(self, story_id: str) -> RenderedStory:
        keyframes_due = max(1, len(self._panels[story_id]))
        panels = _in_order(self._panels, story_id, "panel", keyframes_due)
        keyframes = _in_order(self._keyframes, story_id, "keyframe", keyframes_due)
        shots = _in_order(self._shots, story_id, "shot", keyframes_due - 1)
        clips = _in_order(self._clips, story_id, "clip of shot", keyframes_due - 1)
        for shot, clip in zip(shots, clips, strict=True):
            _check_fit(shot, clip, clips[0])
        return RenderedStory(
            story_id=story_id, panels=panels, shots=shots, keyframes=keyframes, clips=clips
        )


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Put `place` in front of the message of a ValueError raised inside."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def _by_story(output: Output, shard: Shard, table: str, record: type) -> Mapping[str, list[Any]]:
    stories: defaultdict[str, list[Any]] = defaultdict(list)
    rows: list[Any] = read_manifest(output, manifest_path(table, shard), record)
    for row in rows:
        stories[row.story_id].append(row)
    return stories


def _in_order(
    stories: Mapping[str, Sequence[Any]], story_id: str, kind: str, due: int
) -> tuple[Any, ...]:
    """The records of one story, of which indices 0 to `due` - 1 must be there once each."""
    index_name = "shot_index" if "shot" in kind else "keyframe_index"
    rows = sorted(stories[story_id], key=lambda row: int(getattr(row, index_name)))
    found = [getattr(row, index_name) for row in rows]
    if found != list(range(due)):
        wrong = sorted({*found} ^ {*range(due)}) or sorted({i for i in found if found.count(i) > 1})
        raise ValueError(
            f"{kind} {', '.join(map(str, wrong))}: missing from the manifest, or too many there"
        )
    return tuple(rows)


def _check_fit(shot: Shot, clip: Clip, first: Clip) -> None:
    made = (clip.num_frames, clip.width, clip.height)
    planned = (shot.num_frames, first.width, first.height)
    if made != planned or clip.num_frames < 2:
        raise ValueError(
            f"shot {shot.shot_index}: {clip.path} has (frames, width, height) {made} by its record,"
            f" must have {planned}, and at least 2 frames"
        )
