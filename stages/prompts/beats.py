"""Computes how many keyframes a film needs, and divides them among the panels.

A clip of F frames joins two neighbouring keyframes and contains both, so a film has
1 + sum(F - 1) frames. Motion joins the beats of one panel; the panel's own `shot` joins its last
beat to the next panel:

    motion    rendered frames lead from the panel to the next one
    cut       the next panel follows without frames between them
    hold      the panel stands still for `hold_s`, then a cut follows
    dissolve  the panel fades into the next one for `dissolve_s`

No panel is visible for a single frame only. A cut from a keyframe to which no motion leads becomes
a hold, and a film ends with a still of its last keyframe, `films.still_s` long. The films stage
adds that still to the length that is planned here.

A panel is seen for as long as people need to read its caption: it gets more beats, or stands longer
where it stands anyway. A panel that states its beats keeps them; a cut after it becomes a hold.
"""

import itertools
import math
from dataclasses import dataclass

from storyreel.stages.captions import reading_s
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
        still_s: length of the still at the end in seconds.
        reading_speed: letters of a caption that people read a second; 0 if captions take what time
            there is.
    """

    num_frames: int
    fps: int
    hold_s: float
    dissolve_s: float
    still_s: float
    reading_speed: float

    @classmethod
    def of(
        cls, config: PromptsConfig, *, num_frames: int, fps: int, still_s: float
    ) -> "FilmTiming":
        """Return the timing of a configuration.

        Raises:
            ValueError: a clip of motion would contain its keyframes only, or `fps` is not positive.
        """
        if num_frames < 3:
            raise ValueError(f"num_frames {num_frames}: must be at least 3")
        if fps < 1:
            raise ValueError(f"fps {fps}: must be at least 1")
        return cls(
            num_frames=num_frames,
            fps=fps,
            hold_s=config.hold_s,
            dissolve_s=config.dissolve_s,
            still_s=still_s,
            reading_speed=config.reading_speed,
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

    def reading_frames(self, caption: str) -> int:
        """Return the number of frames for which a caption has to be seen."""
        return math.ceil(reading_s(caption, self.reading_speed) * self.fps - 1e-9)

    @property
    def still_frames(self) -> int:
        """The number of frames of the still at the end."""
        return max(1, round(self.still_s * self.fps))

    def film_frames(self, duration_s: float) -> int:
        """Return the least number of frames that last `duration_s` seconds."""
        # In floating point, 0.1 s at 30 fps can be slightly more than 3 frames.
        return max(1, math.ceil(duration_s * self.fps - 1e-9))

    def keyframes_of_motion(self, duration_s: float) -> int:
        """Return the keyframes, at least 2, of a film of motion that lasts `duration_s` seconds."""
        steps = (self.film_frames(duration_s) - 1) / (self.num_frames - 1)
        return 1 + max(1, math.ceil(steps))


@dataclass(frozen=True, slots=True, kw_only=True)
class PacedPanel:
    """What the pace of a panel depends on.

    Attributes:
        shot: how it becomes the next panel.
        beats: the number that it states, if it does.
        size: length of its text; longer ones get the beats that a film's length asks for.
        reading_frames: frames for which it has to be seen.
    """

    shot: ShotKind
    beats: int | None
    size: int
    reading_frames: int

    @classmethod
    def of(cls, panel: PanelInput, caption: str, timing: FilmTiming) -> "PacedPanel":
        """Read the pace of a panel."""
        return cls(
            shot=panel.shot,
            beats=panel.beats,
            size=len(panel.text),
            reading_frames=timing.reading_frames(caption),
        )


Panels = tuple[PacedPanel, ...]


def count_beats(panels: Panels, duration_s: float | None, timing: FilmTiming) -> tuple[int, ...]:
    """Return the number of beats of each panel.

    A panel keeps the number that it states. The others have as many as their captions need; those
    that the film's length needs beyond that they share evenly, and those with longer texts get one
    more. The only panel of a story has at least two, since one keyframe cannot move.

    Args:
        panels: the panels of a story.
        duration_s: least length of the film in seconds; `None` for what the captions need.
        timing: frames of each kind of shot.
    """
    free = [index for index, panel in enumerate(panels) if panel.beats is None]
    least = 2 if len(panels) == 1 else 1
    beats = [panel.beats or least for panel in panels]
    for index in free:
        beats[index] += _beats_to_read(panels, beats, index, timing)
    if duration_s is None or not free:
        return tuple(beats)
    due = timing.film_frames(duration_s)
    longest_first = sorted(free, key=lambda index: (-panels[index].size, index))
    turns = itertools.cycle(longest_first)
    # One round is not always enough: a second beat adds its motion, but it may also turn the hold
    # after its panel into a cut, which is shorter.
    while (missing := due - planned_frames(panels, tuple(beats), timing)) > 0:
        for index in itertools.islice(turns, math.ceil(missing / (timing.num_frames - 1))):
            beats[index] += 1
    return tuple(beats)


def _beats_to_read(panels: Panels, beats: list[int], index: int, timing: FilmTiming) -> int:
    """How many more beats a panel needs, so that its caption can be read."""
    panel, step = panels[index], timing.num_frames - 1
    reached = index > 0 and panels[index - 1].shot is ShotKind.MOTION
    is_last = index == len(panels) - 1
    stands = panel.shot is ShotKind.HOLD or (panel.shot is ShotKind.CUT and not reached)
    if stands and not is_last and beats[index] == 1:
        return 0  # it stands as long as its caption needs
    behind = timing.still_frames if is_last else timing.shot_frames(panel.shot) - 1
    seen = (beats[index] - 1) * step + behind
    return max(0, math.ceil((panel.reading_frames - seen) / step))


def plan_shots(
    panels: Panels, beats: tuple[int, ...], timing: FilmTiming
) -> tuple[tuple[ShotKind, int], ...]:
    """Return the kind and the frames of the shot after each panel but the last.

    A cut from a still keyframe becomes a hold, and so does one that would take a caption away.
    """
    shots = []
    for panel, count, moved in zip(
        panels[:-1], beats, _reached_by_motion(panels, beats)[:-1], strict=False
    ):
        due = 1 + panel.reading_frames - (count - 1) * (timing.num_frames - 1)
        kind = panel.shot
        if kind is ShotKind.CUT and (not moved or due > timing.shot_frames(kind)):
            kind = ShotKind.HOLD
        frames = timing.shot_frames(kind)
        shots.append((kind, max(frames, due) if kind is ShotKind.HOLD else frames))
    return tuple(shots)


def planned_frames(panels: Panels, beats: tuple[int, ...], timing: FilmTiming) -> int:
    """Return the number of frames of the film without its closing still."""
    between = sum(frames - 1 for _, frames in plan_shots(panels, beats, timing))
    return 1 + between + sum(count - 1 for count in beats) * (timing.num_frames - 1)


def _reached_by_motion(panels: Panels, beats: tuple[int, ...]) -> tuple[bool, ...]:
    """For each panel, whether a shot of motion leads to its last keyframe."""
    before = (ShotKind.CUT, *(panel.shot for panel in panels[:-1]))
    return tuple(
        count > 1 or shot is ShotKind.MOTION for count, shot in zip(beats, before, strict=True)
    )
