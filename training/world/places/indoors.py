"""Places indoors: kitchen, bedroom, library."""

from storyreel.training.world.brush import Brush, darker
from storyreel.training.world.places.scenery import LEFT, RIGHT, Layout, Light, blend
from storyreel.training.world.records import Colour


def _room(brush: Brush, wall: Colour, floor: Colour) -> None:
    brush.rectangle(complex(LEFT, -0.2), complex(RIGHT, 0.72), wall)
    brush.rectangle(complex(LEFT, 0.70), complex(RIGHT, 0.73), darker(floor, 0.7))
    brush.rectangle(complex(LEFT, 0.73), complex(RIGHT, 1.2), floor)


def _window(brush: Brush, light: Light, corner: complex, curtain: Colour) -> None:
    """A window 0.26 wide and 0.28 high that shows the time of day."""
    outside = brush.glowing()
    brush.rectangle(corner - 0.02 - 0.02j, corner + 0.28 + 0.3j, (250, 246, 238))
    for k in range(4):
        strip = corner + 0.07j * k
        outside.rectangle(strip, strip + 0.26 + 0.07j, blend(light.zenith, light.horizon, k / 3))
    outside.ellipse(corner + 0.19 + complex(0, 0.08 + 0.3 * (light.orb_y - 0.15)), (0.035, 0.035),
                    light.orb)  # fmt: skip
    if light.lamps:
        for star in (0.05 + 0.06j, 0.11 + 0.14j, 0.06 + 0.21j, 0.21 + 0.2j):
            outside.ellipse(corner + star, (0.007, 0.007), (255, 250, 220))
    brush.rectangle(corner + 0.122, corner + 0.138 + 0.28j, (250, 246, 238))
    brush.rectangle(corner + 0.132j, corner + 0.26 + 0.148j, (250, 246, 238))
    for side in (-1, 1):
        edge = corner + 0.13 + 0.17 * side - 0.03j
        folds = (0, -0.12, -0.03 + 0.2j, -0.05 + 0.34j, 0.34j)
        brush.polygon([edge + complex(side * z.real, z.imag) for z in folds], curtain)


def kitchen(brush: Brush, light: Light, layout: Layout) -> None:
    """Draw the kitchen."""
    _room(brush, (250, 232, 190), (228, 206, 186))
    for k in range(40):
        row, column = divmod(k, 10)
        if (row + column) % 2:
            at = complex(LEFT + 0.14 * column, 0.73 + 0.08 * row)
            brush.rectangle(at, at + 0.14 + 0.08j, (196, 164, 148))
    side = layout.choice((0, 1))
    frame = brush if side == 0 else brush.moved(direct=0, mirrored=-1, origin=1)
    _window(brush, light, complex(0.37, 0.10), (238, 138, 120))
    frame.rectangle(LEFT + 0.50j, 0.78 + 0.72j, (150, 196, 190))
    frame.rectangle(LEFT + 0.47j, 0.80 + 0.51j, (246, 240, 226))
    for k in range(5):
        at = complex(LEFT + 0.05 + 0.195 * k, 0.54)
        frame.rectangle(at, at + 0.165 + 0.15j, (174, 216, 208))
        frame.ellipse(at + 0.14 + 0.03j, (0.01, 0.01), (90, 100, 104))
    _stove(frame, complex(0.02 + layout.choice((0.0, 0.04)), 0.47))
    _fridge(frame, 0.80 + 0.16j)
    frame.stroke((0.0 + 0.1j, 0.30 + 0.1j), (120, 100, 92), 0.012)
    for k, size in enumerate((0.045, 0.055, 0.04)):
        at = complex(0.05 + 0.1 * k, 0.2)
        frame.stroke((at - 0.1j, at), (90, 90, 98), 0.01)
        frame.ellipse(at, (size, size), (196, 120, 84))


def _stove(brush: Brush, corner: complex) -> None:
    brush.rectangle(corner, corner + 0.24 + 0.25j, (104, 108, 122))
    brush.rectangle(corner + 0.03 + 0.08j, corner + 0.21 + 0.21j, (52, 54, 66))
    brush.rectangle(corner + 0.06 + 0.11j, corner + 0.18 + 0.18j, (240, 150, 80))
    brush.rectangle(corner + 0.06 - 0.09j, corner + 0.18, (186, 192, 200))
    brush.stroke((corner + 0.05 - 0.09j, corner + 0.19 - 0.09j), (120, 126, 138), 0.016)


def _fridge(brush: Brush, corner: complex) -> None:
    brush.rectangle(corner, corner + 0.24 + 0.58j, (222, 234, 240))
    brush.rectangle(corner + 0.2j, corner + 0.24 + 0.212j, (158, 178, 190))
    for y in (0.1, 0.3):
        brush.stroke(
            (corner + 0.035 + 1j * y, corner + 0.035 + 1j * (y + 0.07)), (128, 146, 158), 0.016
        )
    brush.rectangle(corner + 0.13 + 0.06j, corner + 0.19 + 0.12j, (255, 214, 130))


def bedroom(brush: Brush, light: Light, layout: Layout) -> None:
    """Draw the bedroom."""
    _room(brush, (214, 202, 232), (206, 162, 122))
    for k in range(12):
        brush.rectangle(complex(LEFT + 0.12 * k, -0.2), complex(LEFT + 0.12 * k + 0.05, 0.70),
                        (224, 214, 240))  # fmt: skip
    side = layout.choice((0, 1))
    frame = brush if side == 0 else brush.moved(direct=0, mirrored=-1, origin=1)
    _window(frame, light, complex(layout.choice((0.60, 0.66)), 0.12), (244, 176, 190))
    frame.ellipse(0.5 + 0.92j, (0.48, 0.09), (238, 190, 196))
    frame.ellipse(0.5 + 0.92j, (0.38, 0.065), (248, 216, 214))
    _bedstead(frame)
    _night_lamp(frame, light, 0.56 + 0.72j)
    picture = complex(layout.choice((0.08, 0.2)), 0.14)
    frame.rectangle(picture, picture + 0.17 + 0.14j, (168, 116, 74))
    frame.rectangle(picture + 0.015 + 0.015j, picture + 0.155 + 0.125j, (186, 224, 232))
    frame.polygon([picture + 0.015 + 0.125j, picture + 0.07 + 0.05j, picture + 0.155 + 0.125j],
                  (120, 176, 120))  # fmt: skip


def _bedstead(brush: Brush) -> None:
    """A bed that stands at the wall, its head at the left."""
    brush.rectangle(-0.17 + 0.36j, -0.11 + 0.80j, (150, 96, 62))
    brush.rectangle(0.44 + 0.52j, 0.49 + 0.80j, (150, 96, 62))
    brush.rectangle(-0.12 + 0.66j, 0.45 + 0.76j, (172, 116, 76))
    brush.rectangle(-0.12 + 0.57j, 0.45 + 0.67j, (246, 242, 246))
    brush.ellipse(-0.01 + 0.55j, (0.11, 0.05), (255, 252, 255))
    brush.polygon([0.08 + 0.545j, 0.45 + 0.545j, 0.45 + 0.71j, 0.06 + 0.71j], (128, 178, 206))
    for k in range(4):
        x = 0.1 + 0.09 * k
        brush.rectangle(complex(x, 0.545), complex(x + 0.03, 0.71), (164, 206, 224))


def _night_lamp(brush: Brush, light: Light, foot: complex) -> None:
    brush.rectangle(foot - 0.06 - 0.16j, foot + 0.06 + 0.02j, (172, 116, 76))
    brush.stroke((foot - 0.16j, foot - 0.24j), (120, 90, 70), 0.014)
    shade = brush.glowing() if light.lamps else brush
    if light.lamps:
        shade.ellipse(foot - 0.27j, (0.11, 0.11), (178, 158, 160))
    shade.polygon([foot - 0.06 - 0.23j, foot - 0.035 - 0.32j, foot + 0.035 - 0.32j,
                   foot + 0.06 - 0.23j], (255, 226, 150))  # fmt: skip


def library(brush: Brush, light: Light, layout: Layout) -> None:
    """Draw the library."""
    _room(brush, (94, 62, 50), (146, 58, 66))
    side = layout.choice((-1, 1))
    for x in (
        (-0.19, 0.0, 0.19, 0.62, 0.81, 1.0) if side > 0 else (-0.19, 0.0, 0.19, 0.38, 0.81, 1.0)
    ):
        _shelf(brush, x, layout)
    _window(brush, light, complex(0.40 if side > 0 else 0.59, 0.1), (58, 120, 96))
    _globe(brush, complex(0.5 - 0.4 * side, 0.80))
    brush.ellipse(0.5 + 0.95j, (0.5, 0.12), (190, 110, 84))
    brush.ellipse(0.5 + 0.95j, (0.44, 0.095), (214, 160, 112))
    ladder = 0.5 + 0.36 * side
    for x in (0.0, 0.09):
        brush.stroke((complex(ladder + x, 0.80), complex(ladder + x + 0.03 * side, 0.06)),
                     (214, 168, 104), 0.016)  # fmt: skip
    for k in range(8):
        at = complex(ladder + 0.03 * side * (k + 1) / 9, 0.76 - 0.085 * k)
        brush.stroke((at, at + 0.09), (214, 168, 104), 0.012)


def _shelf(brush: Brush, left: float, layout: Layout) -> None:
    """A bookcase 0.19 wide that reaches up out of the picture."""
    spines = ((196, 70, 62), (60, 120, 110), (222, 170, 80), (86, 92, 150), (232, 220, 190))
    brush.rectangle(complex(left, -0.1), complex(left + 0.185, 0.74), (62, 38, 32))
    for row in range(5):
        bottom = 0.70 - 0.155 * row
        for k in range(6):
            x = left + 0.014 + 0.026 * k
            height = 0.085 + 0.012 * layout.randrange(4)
            brush.rectangle(complex(x, bottom - height), complex(x + 0.022, bottom),
                            spines[layout.randrange(5)])  # fmt: skip
        brush.rectangle(complex(left, bottom), complex(left + 0.185, bottom + 0.02), (150, 100, 64))
    for x in (left, left + 0.175):
        brush.rectangle(complex(x, -0.1), complex(x + 0.012, 0.74), (150, 100, 64))


def _globe(brush: Brush, foot: complex) -> None:
    brush.stroke((foot, foot - 0.08j), (150, 100, 64), 0.02)
    brush.stroke((foot - 0.05, foot + 0.05), (150, 100, 64), 0.02)
    brush.ellipse(foot - 0.15j, (0.075, 0.075), (96, 168, 214))
    for shift, radii in ((-0.02 - 0.17j, (0.03, 0.025)), (0.03 - 0.13j, (0.025, 0.03))):
        brush.ellipse(foot + shift, radii, (120, 178, 96))
