"""Computes how many keyframes a film needs, and divides them among the panels.

A clip of F frames joins two neighbouring keyframes and contains both, so a film has
1 + sum(F - 1) frames. Motion joins the beats of one panel; the panel's own `shot` joins its last
beat to the next panel:

    motion    rendered frames lead from the panel to the next one
    cut       the next panel follows without frames between them
    hold      the panel stands still for `hold_s`, then a cut follows
    dissolve  the panel fades into the next one for `dissolve_s`

No panel is visible for a single frame only. A cut from a keyframe to which no motion leads becomes
a hold, and a film with such a last keyframe ends with a still of it, `films.still_s` long. The
films stage adds that still to the length that is planned here.
"""

import itertools
import math
from dataclasses import dataclass

from storyreel.stages.output.records import PanelInput, ShotKind
from storyreel.stages.prompts.config import PromptsConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmTiming:
    """The lengths of shots.

    Attributes:
        num_frames: frames of a clip of motion, both keyframes included.
        fps: frames per second.
        hold_s: length of a hold in seconds.
        dissolve_s: length of a dissolve in seconds.
    """

    num_frames: int
    fps: int
    hold_s: float
    dissolve_s: float

    @classmethod
    def of(cls, config: PromptsConfig, num_frames: int, fps: int) -> "FilmTiming":
        """Return the timing of a configuration.

        Raises:
            ValueError: a clip of motion would contain its keyframes only, or `fps` is not positive.
        """
        if num_frames < 3:
            raise ValueError(f"num_frames {num_frames}: must be at least 3")
        if fps < 1:
            raise ValueError(f"fps {fps}: must be at least 1")
        return cls(
            num_frames=num_frames, fps=fps, hold_s=config.hold_s, dissolve_s=config.dissolve_s
        )

    def shot_frames(self, kind: ShotKind) -> int:
        """Return the number of frames of a shot, both keyframes included."""
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
        """Return the least number of frames that last `duration_s` seconds."""
        # In floating point, 0.1 s at 30 fps can be slightly more than 3 frames.
        return max(1, math.ceil(duration_s * self.fps - 1e-9))

    def keyframes_of_motion(self, duration_s: float) -> int:
        """Return the keyframes, at least 2, of a film of motion that lasts `duration_s` seconds."""
        steps = (self.film_frames(duration_s) - 1) / (self.num_frames - 1)
        return 1 + max(1, math.ceil(steps))


def count_beats(
    panels: tuple[PanelInput, ...], duration_s: float | None, timing: FilmTiming
) -> tuple[int, ...]:
    """Return the number of beats of each panel.

    A panel keeps the number that it states. The others share the beats that the film's length
    needs evenly, and those with longer texts get one more. The only panel of a story has at least
    two, since one keyframe cannot move.

    Args:
        panels: the panels of a story.
        duration_s: least length of the film in seconds; `None` for one beat per panel.
        timing: frames of each kind of shot.
    """
    free = [index for index, panel in enumerate(panels) if panel.beats is None]
    least = 2 if len(panels) == 1 else 1
    beats = [panel.beats or least for panel in panels]
    if duration_s is None or not free:
        return tuple(beats)
    due = timing.film_frames(duration_s)
    longest_first = sorted(free, key=lambda index: (-len(panels[index].text), index))
    turns = itertools.cycle(longest_first)
    # One round is not always enough: a second beat adds its motion, but it may also turn the hold
    # after its panel into a cut, which is shorter.
    while (missing := due - planned_frames(panels, tuple(beats), timing)) > 0:
        for index in itertools.islice(turns, math.ceil(missing / (timing.num_frames - 1))):
            beats[index] += 1
    return tuple(beats)


def plan_joins(panels: tuple[PanelInput, ...], beats: tuple[int, ...]) -> tuple[ShotKind, ...]:
    """Return the shot after each panel but the last; a cut from a still keyframe becomes a hold."""
    return tuple(
        ShotKind.HOLD if panel.shot is ShotKind.CUT and not moved else panel.shot
        for panel, moved in zip(panels[:-1], _reached_by_motion(panels, beats)[:-1], strict=True)
    )


def planned_frames(
    panels: tuple[PanelInput, ...], beats: tuple[int, ...], timing: FilmTiming
) -> int:
    """Return the number of frames of the film without its closing still."""
    between = sum(timing.shot_frames(kind) - 1 for kind in plan_joins(panels, beats))
    return 1 + between + sum(count - 1 for count in beats) * (timing.num_frames - 1)


def ends_still(panels: tuple[PanelInput, ...], beats: tuple[int, ...]) -> bool:
    """True if the film ends with a still of its last keyframe."""
    return not _reached_by_motion(panels, beats)[-1]


def _reached_by_motion(panels: tuple[PanelInput, ...], beats: tuple[int, ...]) -> tuple[bool, ...]:
    """For each panel, whether a shot of motion leads to its last keyframe."""
    before = (ShotKind.CUT, *(panel.shot for panel in panels[:-1]))
    return tuple(
        count > 1 or shot is ShotKind.MOTION for count, shot in zip(beats, before, strict=True)
    )
