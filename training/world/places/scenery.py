"""Light, and the parts that several places share: sky, ground, trees, lamps, flowers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from types import MappingProxyType

from storyreel.training.world.brush import Brush, Tint, darker
from storyreel.training.world.records import Colour

LEFT, RIGHT = -0.2, 1.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """A time of day: the sky's colours, and what multiplies the colours of things."""

    zenith: Colour
    horizon: Colour
    outdoors: Tint
    indoors: Tint
    figure: Tint
    lamps: bool
    orb: Colour
    orb_y: float


LIGHTS: Mapping[str, Light] = MappingProxyType(
    {
        "day": Light(
            zenith=(104, 186, 240), horizon=(206, 236, 250), outdoors=(1, 1, 1), indoors=(1, 1, 1),
            figure=(1, 1, 1), lamps=False, orb=(255, 240, 150), orb_y=0.16,
        ),
        "sunset": Light(
            zenith=(172, 110, 170), horizon=(255, 184, 110), outdoors=(1.0, 0.80, 0.70),
            indoors=(1.0, 0.88, 0.76), figure=(1.0, 0.95, 0.90), lamps=False,
            orb=(255, 120, 70), orb_y=0.42,
        ),
        "night": Light(
            zenith=(18, 24, 66), horizon=(58, 74, 132), outdoors=(0.48, 0.55, 0.80),
            indoors=(0.62, 0.60, 0.78), figure=(0.93, 0.94, 1.02), lamps=True,
            orb=(250, 246, 214), orb_y=0.15,
        ),
    }
)  # fmt: skip

Layout = Random
Place = Callable[[Brush, Light, Layout], None]


def sky(brush: Brush, light: Light, layout: Layout) -> None:
    """Draw the sky with its sun or moon, and stars at night."""
    lit = brush.glowing()
    bands = 22
    for k in range(bands):
        share = k / (bands - 1)
        colour = blend(light.zenith, light.horizon, share)
        top = 0.72 * k / bands - 0.12 * (k == 0)
        lit.rectangle(complex(LEFT, top), complex(RIGHT, 0.72 * (k + 1) / bands + 0.01), colour)
    if light.lamps:
        _stars(lit)
    orb = complex(layout.choice((0.16, 0.5, 0.84)), light.orb_y)
    lit.ellipse(orb, (0.095, 0.095), blend(light.orb, light.horizon, 0.6))
    lit.ellipse(orb, (0.072, 0.072), light.orb)
    if light.lamps:
        lit.ellipse(orb + 0.03 - 0.012j, (0.06, 0.06), light.zenith)


def _stars(brush: Brush) -> None:
    for k in range(26):
        star = complex(1.3 * (k * 0.7549 % 1.0) - 0.15, 0.02 + 0.42 * (k * 0.5698 % 1.0))
        size = 0.004 + 0.004 * (k % 3 == 0)
        brush.ellipse(star, (size, size), (255, 250, 220))


def blend(start: Colour, end: Colour, share: float) -> Colour:
    """Mix two colours."""
    red, green, blue = (round((1 - share) * a + share * b) for a, b in zip(start, end, strict=True))
    return (red, green, blue)


def cloud(brush: Brush, light: Light, at: complex) -> None:
    """Draw a cloud."""
    colour = blend((255, 255, 255), light.horizon, 0.25 if not light.lamps else 0.85)
    for shift, radius in ((-0.07, 0.035), (0, 0.055), (0.075, 0.04)):
        brush.glowing().ellipse(at + shift, (radius * 1.3, radius), colour)


def ground(brush: Brush, top: float, colour: Colour) -> None:
    """Draw the ground from `top` downwards."""
    brush.rectangle(complex(LEFT, top), complex(RIGHT, 1.2), colour)
    brush.rectangle(complex(LEFT, 0.93), complex(RIGHT, 1.2), darker(colour, 0.93))


def _hill(brush: Brush, centre: complex, radii: tuple[float, float], colour: Colour) -> None:
    brush.ellipse(centre, radii, colour)


def round_tree(brush: Brush, foot: complex, size: float) -> None:
    """Draw a deciduous tree."""
    trunk = [foot + size * z for z in (-0.035, -0.02 - 0.3j, 0.02 - 0.3j, 0.035)]
    brush.polygon(trunk, (128, 84, 54))
    crown = foot - 0.42j * size
    for shift in (-0.10 + 0.04j, 0.10 + 0.04j, -0.05 - 0.09j, 0.06 - 0.08j):
        brush.ellipse(crown + size * shift, (0.125 * size, 0.115 * size), (74, 146, 76))
    for shift in (-0.05 - 0.06j, 0.07 - 0.01j):
        brush.ellipse(crown + size * shift, (0.085 * size, 0.07 * size), (104, 174, 90))


def pine(brush: Brush, foot: complex, size: float, colour: Colour) -> None:
    """Draw a pine."""
    brush.rectangle(foot - 0.02 * size, foot + 0.02 * size - 0.1j * size, (110, 74, 52))
    for k in range(3):
        base = foot - (0.07 + 0.11 * k) * 1j * size
        half = (0.14 - 0.03 * k) * size
        brush.polygon([base - half, base - 0.2j * size, base + half], darker(colour, 1 + 0.1 * k))


def lamp(brush: Brush, light: Light, foot: complex) -> None:
    """Draw a street lamp, lit at night."""
    brush.stroke((foot, foot - 0.42j), (70, 74, 86), 0.016)
    glass = brush.glowing() if light.lamps else brush
    if light.lamps:
        glass.ellipse(foot - 0.45j, (0.075, 0.075), (128, 124, 120))
    glass.ellipse(foot - 0.45j, (0.04, 0.045), (255, 236, 160))
    brush.polygon([foot - 0.05 - 0.48j, foot - 0.525j, foot + 0.05 - 0.48j], (70, 74, 86))


def flowers(brush: Brush, row: float, colours: tuple[Colour, ...]) -> None:
    """Draw a row of flowers."""
    for k in range(12):
        at = complex(LEFT + 0.12 * k + 0.03 * (k % 2), row + 0.022 * ((k * 7) % 3))
        colour = colours[k % len(colours)]
        brush.stroke((at, at + 0.025j), (70, 130, 70), 0.007)
        brush.ellipse(at, (0.017, 0.017), colour)
        brush.ellipse(at, (0.007, 0.007), (255, 240, 170))
