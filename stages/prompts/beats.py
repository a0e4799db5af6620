"""How many keyframes a film needs, and which panels give them.

Neighbouring keyframes are joined by a clip of F frames that holds both, so a film has
1 + sum(F - 1) frames. The beats of one panel are joined by motion; the panel's own `shot` joins
its last beat to the next panel.
"""

import math
from dataclasses import dataclass

from stages.prompts.config import PromptsConfig
from stages.records import PanelInput, ShotKind


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

    Beats are spread evenly, one more for the longer texts; a film has at least two keyframes.
    """
    free = [index for index, panel in enumerate(panels) if panel.beats is None]
    beats = [panel.beats or 1 for panel in panels]
    extra = _missing_beats(panels, beats, duration_s, timing)
    if len(beats) == 1 and beats[0] + (extra if free else 0) < 2:
        return (2,)
    longest_first = sorted(free, key=lambda index: (-len(panels[index].text), index))
    for turn in range(extra if free else 0):
        beats[longest_first[turn % len(free)]] += 1
    return tuple(beats)


def planned_frames(
    panels: tuple[PanelInput, ...], beats: tuple[int, ...], timing: FilmTiming
) -> int:
    """Frames of the film."""
    between = sum(timing.shot_frames(panel.shot) - 1 for panel in panels[:-1])
    return 1 + between + sum(count - 1 for count in beats) * (timing.num_frames - 1)


def _missing_beats(
    panels: tuple[PanelInput, ...], beats: list[int], duration_s: float | None, timing: FilmTiming
) -> int:
    if duration_s is None:
        return 0
    missing = timing.film_frames(duration_s) - planned_frames(panels, tuple(beats), timing)
    return max(0, math.ceil(missing / (timing.num_frames - 1)))
