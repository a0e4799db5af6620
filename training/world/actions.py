"""Poses: one per action and phase."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """Joint angles in degrees, lengths in figure heights, props as their size in [0, 1].

    Limb angles are measured from hanging straight down, positive to the front; `elbow` bends
    forwards, `knee` backwards. `near` is the side towards the viewer.
    """

    forward: float = 0.0
    lift: float = 0.0
    turn: float = 0.0
    lean: float = 0.0
    nod: float = 0.0
    breath: float = 0.0
    near_shoulder: float = -12.0
    near_elbow: float = 14.0
    far_shoulder: float = 16.0
    far_elbow: float = 12.0
    near_hip: float = -3.0
    near_knee: float = 0.0
    far_hip: float = 3.0
    far_knee: float = 0.0
    eyes: float = 1.0
    smile: float = 0.4
    book: float = 0.0
    page: float = 0.0
    seat: float = 0.0
    bed: float = 0.0
    food: float = 0.0
    kite: float = 0.0
    notes: float = 0.0
    dust: float = 0.0


def mixed(start: Pose, end: Pose, share: float) -> Pose:
    """The pose `share` (in [0, 1]) of the way from `start` to `end`."""
    between = {
        field.name: (1 - share) * getattr(start, field.name) + share * getattr(end, field.name)
        for field in fields(Pose)
    }
    return Pose(**between)


def _wave(phase: float, shift: float = 0.0) -> float:
    return math.sin(2 * math.pi * (phase + shift))


def _walking(phase: float) -> Pose:
    swing = _wave(phase)
    return Pose(
        lift=0.015 * abs(swing) - 0.005,
        lean=3,
        nod=2 * _wave(2 * phase),
        near_shoulder=-34 * swing,
        near_elbow=16,
        far_shoulder=34 * swing,
        far_elbow=16,
        near_hip=32 * swing,
        near_knee=8 + 26 * max(0.0, _wave(phase, 0.25)),
        far_hip=-32 * swing,
        far_knee=8 + 26 * max(0.0, _wave(phase, 0.75)),
    )


def _running(phase: float) -> Pose:
    swing = _wave(phase)
    return Pose(
        lift=0.03 + 0.05 * abs(_wave(phase, 0.1)),
        lean=17,
        near_shoulder=-62 * swing,
        near_elbow=88,
        far_shoulder=62 * swing,
        far_elbow=88,
        near_hip=16 + 56 * swing,
        near_knee=42 + 48 * _wave(phase, 0.25),
        far_hip=16 - 56 * swing,
        far_knee=42 + 48 * _wave(phase, 0.75),
        smile=0.8,
        dust=1,
    )


def _jumping(phase: float) -> Pose:
    height = max(0.0, math.sin(math.pi * (phase - 0.2) / 0.8)) if phase > 0.2 else 0.0
    crouch = math.sin(math.pi * phase / 0.2) if phase < 0.2 else 0.0
    return Pose(
        lift=0.16 * height - 0.06 * crouch,
        near_shoulder=-40 - 95 * height,
        near_elbow=10,
        far_shoulder=40 + 95 * height,
        far_elbow=10,
        near_hip=-8 - 34 * height + 40 * crouch,
        near_knee=24 * height + 75 * crouch,
        far_hip=8 + 44 * height + 40 * crouch,
        far_knee=30 * height + 75 * crouch,
        smile=1,
    )


def _waving(phase: float) -> Pose:
    swing = _wave(phase)
    return Pose(
        lean=2.5 * swing,
        nod=-5 + 5 * swing,
        near_shoulder=-16,
        near_elbow=20,
        far_shoulder=116,
        far_elbow=16 + 36 * swing,
        smile=1,
    )


def _dancing(phase: float) -> Pose:
    sway = _wave(phase)
    return Pose(
        forward=0.05 * sway,
        lift=0.03 * abs(_wave(phase, 0.25)),
        lean=11 * sway,
        nod=-14 * sway,
        near_shoulder=-95 - 40 * sway,
        near_elbow=-40,
        far_shoulder=95 - 40 * sway,
        far_elbow=40,
        near_hip=-10 - 34 * max(0.0, sway),
        near_knee=10 + 20 * max(0.0, sway),
        far_hip=10 + 40 * max(0.0, -sway),
        far_knee=10,
        smile=1,
        notes=1,
    )


def _sitting(phase: float) -> Pose:
    swing = _wave(phase)
    return Pose(
        forward=-0.05,
        lift=-0.09,
        lean=-4 + 2 * swing,
        nod=5 * _wave(phase, 0.2),
        near_shoulder=30,
        near_elbow=18,
        far_shoulder=36,
        far_elbow=18,
        near_hip=84,
        near_knee=80 - 34 * swing,
        far_hip=84,
        far_knee=80 + 34 * swing,
        seat=1,
    )


def _sleeping(phase: float) -> Pose:
    breath = _wave(phase)
    return Pose(
        forward=0.50,
        lift=0.245,
        turn=90,
        nod=42 + 3 * breath,
        breath=0.09 * breath,
        near_shoulder=14 + 5 * breath,
        near_elbow=20,
        far_shoulder=18 + 8 * breath,
        far_elbow=40,
        near_hip=30,
        near_knee=62,
        far_hip=52,
        far_knee=88,
        eyes=0,
        smile=0.2,
        bed=1,
    )


def _reading(phase: float) -> Pose:
    sway = _wave(phase)
    return Pose(
        lean=-2 + 2 * sway,
        nod=9 + 5 * sway,
        near_shoulder=42 + 4 * sway,
        near_elbow=52,
        far_shoulder=56 + 4 * sway,
        far_elbow=36,
        book=1,
        page=phase,
    )


def _eating(phase: float) -> Pose:
    raised = 0.5 + 0.5 * _wave(phase)
    return Pose(
        lean=-2 + 3 * raised,
        nod=3 + 6 * raised,
        near_shoulder=34 + 28 * raised,
        near_elbow=70 + 20 * raised,
        far_shoulder=30 + 28 * raised,
        far_elbow=62 + 20 * raised,
        smile=0.4 + 0.6 * raised,
        food=1,
    )


def _flying_a_kite(phase: float) -> Pose:
    sway = _wave(phase)
    return Pose(
        lean=-5 + 3 * sway,
        nod=-8 + 3 * sway,
        near_shoulder=26 + 6 * sway,
        near_elbow=30,
        far_shoulder=100 + 8 * sway,
        far_elbow=14 + 10 * sway,
        near_hip=-10,
        far_hip=12,
        smile=1,
        kite=1,
    )


POSES: Mapping[str, Callable[[float], Pose]] = MappingProxyType(
    {
        "walking": _walking,
        "running": _running,
        "jumping": _jumping,
        "waving": _waving,
        "dancing": _dancing,
        "sitting": _sitting,
        "sleeping": _sleeping,
        "reading": _reading,
        "eating": _eating,
        "flying a kite": _flying_a_kite,
    }
)
CYCLES: Mapping[str, float] = MappingProxyType(
    {
        "walking": 2, "running": 3, "jumping": 2, "waving": 3,
        "dancing": 2, "sitting": 2, "sleeping": 1, "reading": 2, "eating": 2, "flying a kite": 2,
    }
)  # fmt: skip
REACHES: Mapping[str, tuple[float, float, float]] = MappingProxyType(
    {
        "walking": (0.40, 0.40, 0.02), "running": (0.45, 0.48, 0.08), "jumping": (0.45, 0.45, 0.15),
        "waving": (0.40, 0.40, 0.02), "dancing": (0.50, 0.52, 0.03), "sitting": (0.45, 0.35, 0.0),
        "sleeping": (0.72, 0.54, 0.0), "reading": (0.40, 0.50, 0.02), "eating": (0.40, 0.40, 0.02),
        "flying a kite": (0.40, 0.68, 0.22),
    }
)  # fmt: skip
"""How far an action reaches to the back, to the front and above the figure's usual height."""
STRIDES: Mapping[str, float] = MappingProxyType({"walking": 0.26, "running": 0.42})


def pose_of(action: str, phase: float) -> Pose:
    """The pose of `action` at `phase` (taken modulo 1). Raises ValueError for an unknown action."""
    if action not in POSES:
        raise ValueError(f"action: {action!r} is not one of {', '.join(POSES)}")
    return POSES[action](phase % 1.0)
