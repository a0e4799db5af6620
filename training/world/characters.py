"""The characters: their looks, heads, ears, hats and tails, as tables of small drawings."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from storyreel.training.world.brush import Brush, darker
from storyreel.training.world.records import Colour

Part = Callable[[Brush, Colour], None]

_INK: Colour = (44, 32, 36)
_CREAM: Colour = (255, 246, 232)
_PINK: Colour = (240, 150, 150)
_CHESTNUT: Colour = (136, 72, 30)
_RIM = 0.11


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The looks of one character. Parts are drawn in the frame of the head (its
    radius is 1, y upwards, x to the front); the tail in the frame of the body. `height` is that of
    the standing figure with hat and ears, in figure heights."""

    height: float
    skin: Colour
    behind: Part
    face: Part
    hat: Part | None = None
    nose: Callable[[Brush], None] | None = None
    tail: Part | None = None
    legs: Colour | None = None
    skirt: bool = False
    stout: float = 1.0
    shoes: Colour = (98, 62, 44)


def nothing(brush: Brush, colour: Colour) -> None:
    """The part that is not there."""


def dome(width: float, low: float, high: float) -> list[complex]:
    """The upper half of an ellipse, standing on y = `low`."""
    angles = [math.pi * k / 14 for k in range(15)]
    return [complex(width * math.cos(a), low + (high - low) * math.sin(a)) for a in angles]


def eyes(brush: Brush, openness: float, smile: float) -> None:
    """Two eyes (lines when closed) and a mouth that widens with `smile`."""
    for x in (-0.22, 0.52):
        if openness > 0.5:
            brush.ellipse(complex(x, 0.02), (0.13, 0.18), _INK)
            brush.ellipse(complex(x + 0.04, 0.09), (0.05, 0.06), (255, 255, 255))
        else:
            brush.stroke((complex(x - 0.15, 0.02), complex(x, -0.06), complex(x + 0.15, 0.02)),
                         _INK, 0.09)  # fmt: skip
    width = 0.14 + 0.10 * smile
    mouth = [complex(0.16 + width * t, -0.50 - 0.12 * (1 - t * t)) for t in (-1, -0.5, 0, 0.5, 1)]
    if smile > 0.7:
        brush.polygon([*mouth, complex(0.16, -0.46)], (170, 50, 60))
    brush.stroke(mouth, _INK, 0.07)


def _round_head(brush: Brush, skin: Colour) -> None:
    brush.ellipse(0j, (1.0, 0.95), skin, outline=_RIM)
    for x in (-0.55, 0.78):
        brush.ellipse(complex(x, -0.32), (0.17, 0.12), _PINK)


def _fringe(brush: Brush, hair: Colour) -> None:
    brush.polygon([*dome(1.03, 0.22, 1.04), -0.5 + 0.42j, 0.1 + 0.24j, 0.6 + 0.42j], hair)


def _pigtails(brush: Brush, skin: Colour) -> None:
    hair = (128, 62, 30)
    brush.ellipse(-0.95j, (0.4, 0.3), skin)
    brush.ellipse(0.02j, (1.12, 1.06), hair, outline=_RIM)
    for side in (-1, 1):
        brush.ellipse(complex(1.25 * side, -0.42), (0.30, 0.58), hair, outline=_RIM)
        brush.ellipse(complex(1.14 * side, 0.06), (0.16, 0.16), _PINK)


def _girl_face(brush: Brush, skin: Colour) -> None:
    _round_head(brush, skin)
    _fringe(brush, (128, 62, 30))


def _boy_behind(brush: Brush, skin: Colour) -> None:
    brush.ellipse(0.1j - 0.08, (1.08, 1.0), (38, 30, 34))
    brush.ellipse(-0.98 - 0.1j, (0.2, 0.26), skin, outline=_RIM)


def _boy_face(brush: Brush, skin: Colour) -> None:
    _round_head(brush, skin)
    _fringe(brush, (38, 30, 34))


def _old_face(brush: Brush, skin: Colour) -> None:
    _round_head(brush, skin)
    beard = (226, 226, 232)
    brush.polygon(
        [-1.02 + 0.05j, -1.0 - 0.6j, -0.5 - 1.35j, 0.2 - 1.6j, 0.75 - 1.2j, 1.0 - 0.5j,
         1.0 + 0.05j, 0.7 - 0.28j, 0.15 - 0.22j, -0.5 - 0.28j],
        beard,
        outline=_RIM * 0.8,
    )  # fmt: skip
    brush.ellipse(0.16 - 0.16j, (0.17, 0.14), (232, 140, 120))
    for x in (-0.22, 0.52):
        brush.ellipse(complex(x, 0.04), (0.31, 0.31), (250, 250, 250), outline=0.09)


def _robot_behind(brush: Brush, skin: Colour) -> None:
    for side in (-1, 1):
        brush.ellipse(complex(1.02 * side, -0.05), (0.24, 0.34), darker(skin, 0.75), outline=_RIM)


def _robot_face(brush: Brush, skin: Colour) -> None:
    square = [-0.8 - 0.95j, 0.8 - 0.95j, 1 - 0.75j, 1 + 0.7j, 0.85 + 0.9j, -0.85 + 0.9j,
              -1 + 0.7j, -1 - 0.75j]  # fmt: skip
    brush.polygon(square, skin, outline=_RIM)
    brush.polygon([0.72 * z + 0.08 - 0.04j for z in square], (38, 52, 66))
    screen = brush.glowing()
    for x in (-0.24, 0.42):
        screen.ellipse(complex(x, 0.10), (0.19, 0.24), (90, 240, 250))
    screen.stroke((-0.2 - 0.42j, 0.1 - 0.52j, 0.4 - 0.42j), (90, 240, 250), 0.1)


def _pointed_ears(brush: Brush, skin: Colour) -> None:
    for side in (-1, 1):
        ear = [complex(0.98 * side, 0.05), complex(0.95 * side, 1.42), complex(0.12 * side, 0.82)]
        brush.polygon(ear, skin, outline=_RIM)
        inner = [0.3 * ear[0] + 0.7 * ear[1], 0.55 * ear[0] + 0.4 * ear[2], 0.6 * ear[2] + 0.35j]
        brush.polygon(inner, _PINK)


def _fox_ears(brush: Brush, skin: Colour) -> None:
    for side in (-1, 1):
        ear = [complex(1.0 * side, 0.0), complex(1.08 * side, 1.62), complex(0.1 * side, 0.8)]
        brush.polygon(ear, skin, outline=_RIM)
        tip = [ear[1], 0.6 * ear[1] + 0.4 * ear[0], 0.6 * ear[1] + 0.4 * ear[2]]
        brush.polygon(tip, _INK)


def _round_ears(brush: Brush, skin: Colour) -> None:
    for side in (-1, 1):
        brush.ellipse(complex(0.82 * side, 0.78), (0.42, 0.42), skin, outline=_RIM)
        brush.ellipse(complex(0.82 * side, 0.78), (0.22, 0.22), (226, 178, 130))


def _ear_roots(brush: Brush, skin: Colour) -> None:
    """The roots of floppy ears, which hang in front of the head."""
    for side in (-1, 1):
        brush.ellipse(complex(0.72 * side, 0.62), (0.42, 0.36), skin, outline=_RIM)


def _dog_face(brush: Brush, skin: Colour) -> None:
    brush.ellipse(0j, (1.0, 0.96), skin, outline=_RIM)
    brush.ellipse(0.58 + 0.12j, (0.36, 0.46), (206, 134, 72))
    _muzzle(brush, (255, 252, 246))
    brush.ellipse(0.20 - 0.22j, (0.24, 0.17), _INK)
    for side in (-1, 1):
        ear = [complex(side * x, y) for x, y in
               ((0.42, 0.95), (0.95, 0.9), (1.4, 0.3), (1.52, -0.5), (1.28, -0.98),
                (0.98, -0.8), (0.86, 0.0))]  # fmt: skip
        brush.polygon(ear, _CHESTNUT, outline=_RIM)


def _penguin_face(brush: Brush, skin: Colour) -> None:
    brush.ellipse(0j, (1.02, 1.0), skin, outline=_RIM)
    brush.polygon([-0.2 + 1.0j, 0.0 + 1.34j, 0.06 + 1.08j, 0.3 + 1.3j, 0.26 + 0.95j], skin)
    for x in (-0.22, 0.52):
        brush.ellipse(complex(x, 0.08), (0.42, 0.50), (255, 255, 255))
    brush.ellipse(0.15 - 0.42j, (0.68, 0.46), (255, 255, 255))
    for x in (-0.42, 0.74):
        brush.ellipse(complex(x, -0.34), (0.15, 0.11), _PINK)


def _beak(brush: Brush) -> None:
    brush.polygon([-0.14 - 0.16j, 0.2 - 0.02j, 0.52 - 0.16j, 0.2 - 0.62j], (255, 150, 20),
                  outline=0.08)  # fmt: skip


def _long_ears(brush: Brush, skin: Colour) -> None:
    for side, lean in ((-1, -0.12), (1, 0.3)):
        centre = complex(0.44 * side + lean * 0.3, 1.20)
        brush.ellipse(centre, (0.34, 0.74), skin, outline=_RIM)
        brush.ellipse(centre - 0.05j, (0.19, 0.56), (255, 120, 150))


def _muzzle(brush: Brush, colour: Colour) -> None:
    brush.ellipse(0.18 - 0.42j, (0.52, 0.38), colour)
    brush.ellipse(0.20 - 0.22j, (0.16, 0.11), _INK)


def _cat_face(brush: Brush, skin: Colour) -> None:
    brush.ellipse(0j, (1.08, 0.92), skin, outline=_RIM)
    for x in (-0.16, 0.14, 0.44):
        brush.stroke((complex(x, 0.84), complex(x, 0.42)), (166, 92, 16), 0.15)
    _muzzle(brush, _CREAM)
    for side in (-1, 1):
        for drop in (-0.28, -0.5):
            start = complex(0.15 + 0.62 * side, drop)
            brush.stroke((start, start + complex(0.62 * side, 0.25 * (drop + 0.36))),
                         (70, 66, 76), 0.05)  # fmt: skip


def _bear_face(brush: Brush, skin: Colour) -> None:
    brush.ellipse(0j, (1.08, 0.98), skin, outline=_RIM)
    _muzzle(brush, (226, 178, 130))


def _rabbit_face(brush: Brush, skin: Colour) -> None:
    brush.ellipse(0j, (0.98, 0.94), skin, outline=_RIM)
    for x in (-0.5, 0.8):
        brush.ellipse(complex(x, -0.34), (0.18, 0.13), _PINK)
    brush.ellipse(0.18 - 0.26j, (0.12, 0.09), (226, 96, 120))
    brush.rectangle(0.08 - 0.56j, 0.28 - 0.82j, (255, 255, 255))


def _fox_face(brush: Brush, skin: Colour) -> None:
    head = [-1.25 - 0.3j, -0.85 + 0.6j, -0.3 + 0.95j, 0.3 + 0.95j, 0.85 + 0.6j, 1.3 - 0.3j,
            0.75 - 0.75j, 0.2 - 1.02j, -0.5 - 0.85j]  # fmt: skip
    brush.polygon(head, skin, outline=_RIM)
    brush.polygon([-1.2 - 0.3j, -0.35 - 0.3j, 0.05 - 0.95j, -0.5 - 0.82j], _CREAM)
    brush.polygon([1.24 - 0.3j, 0.65 - 0.3j, 0.3 - 0.95j, 0.75 - 0.72j], _CREAM)
    brush.ellipse(0.20 - 0.86j, (0.18, 0.14), _INK)


def _beanie(brush: Brush, colour: Colour) -> None:
    brush.polygon(dome(1.08, 0.40, 1.36), colour, outline=_RIM)
    brush.limb((-1.0 + 0.46j, 1.0 + 0.46j), colour, 0.26)
    brush.ellipse(1.42j, (0.24, 0.24), colour, outline=_RIM)


def _cap(brush: Brush, colour: Colour) -> None:
    brush.polygon(dome(1.08, 0.36, 1.32), colour, outline=_RIM)
    brush.polygon([0.3 + 0.34j, 1.75 + 0.26j, 1.7 + 0.46j, 0.9 + 0.66j], colour, outline=_RIM)


def _brimmed(brush: Brush, colour: Colour) -> None:
    brush.polygon([-0.82 + 0.5j, -0.76 + 1.45j, 0.76 + 1.45j, 0.82 + 0.5j], colour, outline=_RIM)
    brush.ellipse(0.52j, (1.45, 0.2), colour, outline=_RIM)


def _pointed(brush: Brush, colour: Colour) -> None:
    brush.polygon([-0.95 + 0.66j, 0.05 + 1.66j, 0.95 + 0.66j], colour, outline=_RIM)
    brush.limb((-0.95 + 0.68j, 0.95 + 0.68j), colour, 0.26)
    brush.ellipse(0.05 + 1.66j, (0.17, 0.17), colour, outline=_RIM)


def _long_tail(brush: Brush, skin: Colour) -> None:
    curve = (-0.1 + 0.3j, -0.24 + 0.26j, -0.32 + 0.36j, -0.30 + 0.5j, -0.36 + 0.56j)
    brush.limb(curve, skin, 0.055)


def _wagging_tail(brush: Brush, skin: Colour) -> None:
    brush.limb((-0.1 + 0.32j, -0.2 + 0.36j, -0.26 + 0.46j), _CHESTNUT, 0.06)
    brush.ellipse(-0.27 + 0.48j, (0.045, 0.045), skin, outline=0.012)


def _puff_tail(brush: Brush, skin: Colour) -> None:
    brush.ellipse(-0.19 + 0.29j, (0.075, 0.075), skin, outline=0.012)


def _brush_tail(brush: Brush, skin: Colour) -> None:
    tail = [-0.08 + 0.32j, -0.22 + 0.2j, -0.38 + 0.24j, -0.43 + 0.42j, -0.36 + 0.58j,
            -0.29 + 0.48j, -0.24 + 0.38j]  # fmt: skip
    brush.polygon(tail, skin, outline=0.014)
    brush.polygon([tail[3], tail[4], tail[5], -0.36 + 0.44j], _CREAM)


LOOKS: Mapping[str, Look] = MappingProxyType(
    {
        "girl": Look(
            height=1.15, skin=(255, 216, 186),
            behind=_pigtails, face=_girl_face, hat=_beanie, skirt=True,
            legs=(255, 216, 186),
        ),
        "boy": Look(
            height=1.08, skin=(170, 110, 72),
            behind=_boy_behind, face=_boy_face, hat=_cap,
        ),
        "old man": Look(
            height=1.12, skin=(250, 200, 172),
            behind=nothing, face=_old_face, hat=_brimmed, stout=1.06
        ),
        "robot": Look(
            height=1.20, skin=(98, 178, 190),
            behind=_robot_behind, face=_robot_face, hat=_pointed,
            shoes=(60, 100, 116),
        ),
        "cat": Look(
            height=1.12, skin=(255, 192, 54),
            behind=_pointed_ears, face=_cat_face, tail=_long_tail,
        ),
        "bear": Look(
            height=1.07, skin=(120, 72, 40),
            behind=_round_ears, face=_bear_face, tail=_puff_tail, stout=1.25
        ),
        "rabbit": Look(
            height=1.24, skin=(255, 238, 240),
            behind=_long_ears, face=_rabbit_face, tail=_puff_tail
        ),
        "fox": Look(
            height=1.17, skin=(226, 84, 22),
            behind=_fox_ears, face=_fox_face, tail=_brush_tail,
        ),
        "penguin": Look(
            height=1.09, skin=(52, 62, 98),
            behind=nothing, face=_penguin_face, nose=_beak, stout=1.22,
            shoes=(255, 150, 20),
        ),
        "dog": Look(
            height=1.03, skin=(250, 240, 226),
            behind=_ear_roots, face=_dog_face, tail=_wagging_tail
        ),
    }
)  # fmt: skip
