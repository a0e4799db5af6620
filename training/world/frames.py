"""Frames that show a figure twice: a standing mirror and a portrait on an easel."""

from storyreel.training.world.brush import Brush
from storyreel.training.world.records import Colour, Scene

_WIDTH, _HEIGHT = 0.42, 0.74
_TOP = 0.08
_GOLD: Colour = (206, 156, 62)
_WOOD: Colour = (146, 92, 54)


def free_side(scene: Scene) -> float:
    """The x of the middle of the side that the first figure leaves free."""
    return 0.27 if scene.figures[0].x > 0.5 else 0.73


def opening(brush: Brush, x: float) -> tuple[int, int, int, int]:
    """The pixels (left, top, right, bottom) of what a frame in the middle of `x` shows."""
    corner = complex(x - _WIDTH / 2, _TOP)
    first, last = brush.at(corner), brush.at(corner + complex(_WIDTH, _HEIGHT))
    return (round(first.real), round(first.imag), round(last.real), round(last.imag))


def draw_portrait_frame(brush: Brush, x: float) -> None:
    """A gilded frame on the feet of an easel."""
    bottom = _TOP + _HEIGHT
    for side in (-1, 1):
        brush.stroke((complex(x + 0.13 * side, bottom), complex(x + 0.17 * side, 0.93)),
                     _WOOD, 0.022)  # fmt: skip
    for rim, colour in ((0.035, _WOOD), (0.03, _GOLD), (0.008, (250, 226, 150))):
        _border(brush, x, rim, colour)


def draw_mirror_frame(brush: Brush, x: float) -> None:
    """A silver frame on two feet, with glass that reflects the light of the place."""
    bottom = _TOP + _HEIGHT
    for side in (-1, 1):
        foot = complex(x + 0.2 * side, 0.92)
        brush.stroke((complex(x + 0.19 * side, bottom), foot), (110, 118, 150), 0.024)
        brush.stroke((foot - 0.04, foot + 0.04), (110, 118, 150), 0.024)
    brush.ellipse(complex(x, _TOP), (0.09, 0.05), (150, 158, 190))
    for rim, colour in ((0.026, (110, 118, 150)), (0.02, (190, 198, 222))):
        _border(brush, x, rim, colour)
    _border(brush, x, 0.0, (206, 228, 236))
    for shift in (-0.12, 0.06):
        brush.stroke((complex(x + shift - 0.07, 0.36), complex(x + shift + 0.05, 0.12)),
                     (226, 242, 246), 0.03)  # fmt: skip


def _border(brush: Brush, x: float, rim: float, colour: Colour) -> None:
    half = _WIDTH / 2 + rim
    top, bottom = _TOP - rim, _TOP + _HEIGHT + rim
    brush.rectangle(complex(x - half, top), complex(x + half, bottom), colour)
