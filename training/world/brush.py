"""A brush that draws on a canvas through a movable, turnable, mirrorable frame of coordinates."""

import cmath
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import ImageDraw

from storyreel.training.world.records import Colour

Tint = tuple[float, float, float]

_CIRCLE = tuple(cmath.rect(1.0, 2 * math.pi * k / 28) for k in range(28))


def darker(colour: Colour, share: float = 0.7) -> Colour:
    """`colour` with each channel multiplied by `share`."""
    return (int(colour[0] * share), int(colour[1] * share), int(colour[2] * share))


@dataclass(frozen=True, slots=True, kw_only=True)
class Brush:
    """Points are complex numbers; z lands on pixel direct * z + mirrored * conj(z) + origin
    (imaginary part downwards). Every colour is multiplied by `tint`."""

    canvas: ImageDraw.ImageDraw
    direct: complex
    mirrored: complex
    origin: complex
    tint: Tint

    def moved(self, *, direct: complex = 1, mirrored: complex = 0, origin: complex = 0) -> "Brush":
        """The brush for points given in a frame that lies inside this one."""
        return replace(
            self,
            direct=self.direct * direct + self.mirrored * mirrored.conjugate(),
            mirrored=self.direct * mirrored + self.mirrored * direct.conjugate(),
            origin=self.at(origin),
        )

    def glowing(self, share: float = 1.0) -> "Brush":
        """The same brush with its own light, whatever the time of day."""
        return replace(self, tint=(share, share, share))

    def polygon(self, points: Sequence[complex], colour: Colour, *, outline: float = 0.0) -> None:
        """Fill `points`; `outline` is the width of a darker rim, in units of this frame."""
        pixels = [self._pixel(point) for point in points]
        self.canvas.polygon(pixels, fill=self._lit(colour))
        if outline > 0:
            width = max(1, round(outline * self._unit()))
            rim = self._lit(darker(colour, 0.62))
            self.canvas.line([*pixels, pixels[0], pixels[1]], fill=rim, width=width, joint="curve")

    def ellipse(
        self, centre: complex, radii: tuple[float, float], colour: Colour, *, outline: float = 0.0
    ) -> None:
        """Fill the ellipse with half axes `radii` along this frame's axes."""
        width, height = radii
        points = [centre + complex(width * z.real, height * z.imag) for z in _CIRCLE]
        self.polygon(points, colour, outline=outline)

    def rectangle(self, corner: complex, opposite: complex, colour: Colour) -> None:
        """Fill the rectangle between two corners."""
        across = complex(opposite.real, corner.imag)
        down = complex(corner.real, opposite.imag)
        self.polygon((corner, across, opposite, down), colour)

    def stroke(self, points: Sequence[complex], colour: Colour, width: float) -> None:
        """A line with round joints and ends through `points`."""
        pixels = [self._pixel(point) for point in points]
        thick = max(1, round(width * self._unit()))
        lit = self._lit(colour)
        self.canvas.line(pixels, fill=lit, width=thick, joint="curve")
        radius = thick / 2
        for x, y in (pixels[0], pixels[-1]):
            self.canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=lit)

    def limb(self, points: Sequence[complex], colour: Colour, width: float) -> None:
        """A stroke with a darker rim."""
        self.stroke(points, darker(colour, 0.62), width + 0.022)
        self.stroke(points, colour, width)

    def at(self, z: complex) -> complex:
        """The pixel on which the point `z` of this frame lands."""
        return self.direct * z + self.mirrored * z.conjugate() + self.origin

    def _pixel(self, z: complex) -> tuple[float, float]:
        pixel = self.at(z)
        return (pixel.real, pixel.imag)

    def _unit(self) -> float:
        return abs(self.direct) + abs(self.mirrored)

    def _lit(self, colour: Colour) -> Colour:
        red, green, blue = self.tint
        return (
            min(255, int(colour[0] * red)),
            min(255, int(colour[1] * green)),
            min(255, int(colour[2] * blue)),
        )
