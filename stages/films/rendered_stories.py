"""The complete records of one story, from which its film is made.

They come from the manifests of a shard, or straight from the stages of the same process.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from storyreel.stages.output.manifests import Shard, manifest_path, read_manifest
from storyreel.stages.output.records import Clip, Keyframe, Panel, Shot
from storyreel.stages.output.storage import Output


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedStory:
    """A story with K panels and their keyframes, K - 1 shots and their clips, each in order."""

    story_id: str
    panels: tuple[Panel, ...]
    shots: tuple[Shot, ...]
    keyframes: tuple[Keyframe, ...]
    clips: tuple[Clip, ...]

    @classmethod
    def of(
        cls,
        story_id: str,
        *,
        panels: Iterable[Panel],
        shots: Iterable[Shot],
        keyframes: Iterable[Keyframe],
        clips: Iterable[Clip],
    ) -> Self:
        """Sort the records of one story and check that they fit together.

        Raises:
            ValueError: a panel, shot, keyframe or clip is missing or there twice, or a clip has
                another length than its shot or another size than the first clip.
        """
        with naming(f"story {story_id}"):
            panels = tuple(panels)
            num_keyframes = max(1, len(panels))
            story = cls(
                story_id=story_id,
                panels=_complete(panels, "panel", num_keyframes),
                keyframes=_complete(keyframes, "keyframe", num_keyframes),
                shots=_complete(shots, "shot", num_keyframes - 1),
                clips=_complete(clips, "clip of shot", num_keyframes - 1),
            )
            for shot, clip in zip(story.shots, story.clips, strict=True):
                _check_fit(shot, clip, story.clips[0])
        return story

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the pictures before they are fitted into the film, in pixels.

        All clips have one size, which may differ from that of the keyframes.
        """
        shown = self.clips[0] if self.clips else self.keyframes[0]
        return shown.width, shown.height

    def keyframe_times(self) -> list[int]:
        """The index of the film frame that shows each keyframe first, K numbers from 0.

        A clip begins and ends with its keyframes; neighbouring clips share one, shown once.
        """
        times = [0]
        for shot in self.shots:
            times.append(times[-1] + shot.num_frames - 1)
        return times


class RenderedShard:
    """The records of a shard, read once and looked up by story."""

    def __init__(self, output: Output, shard: Shard) -> None:
        """Read the manifests of panels, shots, keyframes and clips.

        Raises:
            FileNotFoundError: one of them does not exist.
            ValueError: one of them cannot be read.
        """
        self._panels = _by_story(output, shard, "panels", Panel)
        self._shots = _by_story(output, shard, "shots", Shot)
        self._keyframes = _by_story(output, shard, "keyframes", Keyframe)
        self._clips = _by_story(output, shard, "clips", Clip)

    def story(self, story_id: str) -> RenderedStory:
        """Return the records of one story.

        Raises:
            ValueError: they are incomplete or do not fit together; see `RenderedStory.of`.
        """
        return RenderedStory.of(
            story_id,
            panels=self._panels[story_id],
            shots=self._shots[story_id],
            keyframes=self._keyframes[story_id],
            clips=self._clips[story_id],
        )


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Prefix the message of a `ValueError` that is raised inside with `place`."""
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


def _complete(records: Iterable[Any], kind: str, count: int) -> tuple[Any, ...]:
    """The records in the order of their index, which must run from 0 to `count` - 1."""
    index_name = "shot_index" if "shot" in kind else "keyframe_index"
    ordered = sorted(records, key=lambda record: int(getattr(record, index_name)))
    found = [getattr(record, index_name) for record in ordered]
    if found != list(range(count)):
        wrong = sorted({*found} ^ {*range(count)}) or sorted(
            {index for index in found if found.count(index) > 1}
        )
        raise ValueError(f"{kind} {', '.join(map(str, wrong))}: missing, unexpected or duplicated")
    return tuple(ordered)


def _check_fit(shot: Shot, clip: Clip, first: Clip) -> None:
    """Compare a clip's record with its shot and with the first clip, whose size all have."""
    made = (clip.num_frames, clip.width, clip.height)
    planned = (shot.num_frames, first.width, first.height)
    if made != planned or clip.num_frames < 2:
        raise ValueError(
            f"shot {shot.shot_index}: {clip.path} has (frames, width, height) {made} in its record,"
            f" must be {planned} with at least 2 frames"
        )
