"""The number of keyframes of a film, and how they are shared out among its panels.

Neighbouring keyframes are joined by a clip of F frames that holds both, so a film has
1 + sum(F - 1) frames. The beats of one panel are joined by motion; the panel's own `shot` joins
its last beat to the next panel:

    motion    rendered; the panel is left at once
    cut       the next panel is there at once
    hold      the panel stands for `hold_s`, then as a cut
    dissolve  the panel fades into the next one for `dissolve_s`

No panel flashes by as a single frame. A cut from a keyframe that no motion has led to is a hold;
a film whose last keyframe no motion has led to ends with a still of it, `films.still_s` long. That
still is added by stage 4 and comes on top of the length that is planned here.
"""

import itertools
import math
from dataclasses import dataclass

from storyreel.stages.output.records import PanelInput, ShotKind
from storyreel.stages.prompts.config import PromptsConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmTiming:
    """Frames of a clip of motion, frames per second, and the lengths of the other shots."""

    num_frames: int
    fps: int
    hold_s: float
    dissolve_s: float

    @classmethod
    def of(cls, config: PromptsConfig, num_frames: int, fps: int) -> "FilmTiming":
        """The timing that a configuration asks for.

        Raises:
            ValueError: a clip of motion would hold nothing but its keyframes, or time stands.
        """
        if num_frames < 3:
            raise ValueError(f"num_frames {num_frames}: must be at least 3")
        if fps < 1:
            raise ValueError(f"fps {fps}: must be at least 1")
        return cls(
            num_frames=num_frames, fps=fps, hold_s=config.hold_s, dissolve_s=config.dissolve_s
        )

    def shot_frames(self, kind: ShotKind) -> int:
        """Frames of a shot, both keyframes included."""
        match kind:
            case ShotKind.MOTION:
                return self.num_frames
            case ShotKind.CUT:
                return 2
            case ShotKind.HOLD:
                return 1 + max(1, round(self.hold_s * self.fps))
            case ShotKind.DISSOLVE:
                return 1 + max(1, round(self.dissolve_s * self.fps))

    def film_frames(self, duration_s: float) -> int:
        """The least number of frames that lasts `duration_s`."""
        # A tiny slack, so that 0.1 s at 30 fps is 3 frames in floating point too.
        return max(1, math.ceil(duration_s * self.fps - 1e-9))

    def keyframes_of_motion(self, duration_s: float) -> int:
        """Keyframes of a film that has only motion and lasts at least `duration_s`; 2 or more."""
        steps = (self.film_frames(duration_s) - 1) / (self.num_frames - 1)
        return 1 + max(1, math.ceil(steps))


def count_beats(
    panels: tuple[PanelInput, ...], duration_s: float | None, timing: FilmTiming
) -> tuple[int, ...]:
    """The beats of each panel: its own number if stated, else what the film's length asks for.

    Beats are spread evenly, one more for the longer texts; a story's only panel has at least two.
    """
    free = [index for index, panel in enumerate(panels) if panel.beats is None]
    least = 2 if len(panels) == 1 else 1
    beats = [panel.beats or least for panel in panels]
    if duration_s is None or not free:
        return tuple(beats)
    due = timing.film_frames(duration_s)
    longest_first = sorted(free, key=lambda index: (-len(panels[index].text), index))
    turns = itertools.cycle(longest_first)
    # Again and again, for a beat adds its motion but may spare its panel from standing.
    while (missing := due - planned_frames(panels, tuple(beats), timing)) > 0:
        for index in itertools.islice(turns, math.ceil(missing / (timing.num_frames - 1))):
            beats[index] += 1
    return tuple(beats)


def plan_joins(panels: tuple[PanelInput, ...], beats: tuple[int, ...]) -> tuple[ShotKind, ...]:
    """The kind of shot after each panel; a cut from a still keyframe becomes a hold."""
    return tuple(
        ShotKind.HOLD if panel.shot is ShotKind.CUT and not moved else panel.shot
        for panel, moved in zip(panels[:-1], _moved_to(panels, beats)[:-1], strict=True)
    )


def planned_frames(
    panels: tuple[PanelInput, ...], beats: tuple[int, ...], timing: FilmTiming
) -> int:
    """Frames of the film, its closing still left out."""
    between = sum(timing.shot_frames(kind) - 1 for kind in plan_joins(panels, beats))
    return 1 + between + sum(count - 1 for count in beats) * (timing.num_frames - 1)


def ends_still(panels: tuple[PanelInput, ...], beats: tuple[int, ...]) -> bool:
    """True if the film ends with a still of its last keyframe."""
    return not _moved_to(panels, beats)[-1]


def _moved_to(panels: tuple[PanelInput, ...], beats: tuple[int, ...]) -> tuple[bool, ...]:
    """For each panel, whether a shot of motion leads to its last keyframe."""
    before = (ShotKind.CUT, *(panel.shot for panel in panels[:-1]))
    return tuple(
        count > 1 or shot is ShotKind.MOTION for count, shot in zip(beats, before, strict=True)
    )
