"""Places outdoors: park, beach, forest, street, mountain, castle garden, desert."""

import math

from storyreel.training.world.brush import Brush, darker
from storyreel.training.world.places.scenery import (
    LEFT,
    RIGHT,
    Layout,
    Light,
    cloud,
    flowers,
    ground,
    lamp,
    pine,
    round_tree,
    sky,
)
from storyreel.training.world.records import Colour


def park(brush: Brush, light: Light, layout: Layout) -> None:
    """Draw the park."""
    sky(brush, light, layout)
    cloud(brush, light, complex(layout.choice((0.3, 0.66)), 0.22))
    for k in range(7):
        brush.ellipse(complex(LEFT + 0.23 * k, 0.58), (0.17, 0.11), (126, 182, 116))
    ground(brush, 0.6, (164, 212, 116))
    bend = layout.choice((-0.2, 0.2))
    brush.polygon([0.46 + bend + 0.6j, 0.54 + bend + 0.6j, 0.74 + 0.78j, 0.95 + 1.1j, 0.05 + 1.1j,
                   0.30 + 0.78j], (238, 220, 170))  # fmt: skip
    round_tree(brush, complex(layout.choice((0.05, 0.12)), 0.72), 1.15)
    round_tree(brush, complex(layout.choice((0.9, 0.97)), 0.70), 1.0)
    side = layout.choice((0.27, 0.72))
    for y in (0.59, 0.625, 0.67):
        brush.stroke((complex(side - 0.11, y), complex(side + 0.11, y)), (168, 106, 62), 0.022)
    for x in (-0.09, 0.09):
        brush.stroke((complex(side + x, 0.58), complex(side + x, 0.735)), (84, 78, 84), 0.014)
    lamp(brush, light, complex(1 - side, 0.74))
    flowers(brush, 0.80, ((250, 250, 250), (250, 176, 200)))


def beach(brush: Brush, light: Light, layout: Layout) -> None:
    """Draw the beach."""
    sky(brush, light, layout)
    brush.rectangle(complex(LEFT, 0.46), complex(RIGHT, 0.75), (46, 168, 194))
    brush.rectangle(complex(LEFT, 0.46), complex(RIGHT, 0.52), (32, 142, 180))
    for k in range(9):
        at = complex(LEFT + 0.17 * k + 0.08 * (k % 2), 0.55 + 0.05 * (k % 2))
        brush.stroke((at, at + 0.07), (150, 220, 228), 0.01)
    sail = layout.choice((0.3, 0.5, 0.7))
    brush.polygon([sail - 0.06 + 0.47j, sail + 0.07 + 0.47j, sail + 0.045 + 0.5j,
                   sail - 0.04 + 0.5j], (150, 90, 60))  # fmt: skip
    brush.polygon([sail + 0.46j, sail + 0.33j, sail + 0.065 + 0.45j], (255, 252, 240))
    shore = [complex(LEFT + 0.1 * k, 0.68 + 0.012 * math.sin(1.7 * k)) for k in range(15)]
    brush.polygon([*(z - 0.018j for z in shore), RIGHT + 0.9j, LEFT + 0.9j], (240, 250, 250))
    brush.polygon([*shore, RIGHT + 1.2j, LEFT + 1.2j], (248, 222, 164))
    side = layout.choice((-1, 1))
    _palm(brush, complex(0.5 - 0.43 * side, 0.80), side)
    _parasol(brush, complex(0.5 + 0.34 * side, 0.80), side)
    brush.ellipse(0.4 + 0.95j, (0.03, 0.018), (255, 180, 160))
    brush.ellipse(0.66 + 0.9j, (0.02, 0.013), (255, 244, 234))


def _palm(brush: Brush, foot: complex, side: int) -> None:
    top = foot + complex(0.07 * side, -0.50)
    middle = foot + complex(0.0, -0.25)
    brush.stroke((foot, middle, top), (160, 112, 70), 0.04)
    for angle in (200, 165, 245, 300, 340, 15):
        tip = top + 0.2 * complex(
            math.cos(math.radians(angle)), 0.75 * math.sin(math.radians(angle))
        )
        bend = 0.5 * (top + tip) - 0.05j
        brush.polygon([top - 0.015j, bend, tip + 0.03j, bend + 0.055j], (60, 150, 84))
    for shift in (-0.02, 0.025):
        brush.ellipse(top + shift + 0.02j, (0.022, 0.022), (122, 78, 50))


def _parasol(brush: Brush, foot: complex, side: int) -> None:
    top = foot + complex(-0.05 * side, -0.36)
    brush.stroke((foot, top), (240, 236, 226), 0.014)
    shade = [complex(0.17 * math.cos(math.pi * k / 8), 0.12 * math.sin(math.pi * k / 8))
             for k in range(9)]  # fmt: skip
    for k in range(8):
        colour = ((240, 120, 130), (255, 246, 236))[k % 2]
        hem = [top + 0.06j + point.conjugate() for point in shade[k : k + 2]]
        brush.polygon([top, *hem, top + 0.06j], colour)
    brush.ellipse(foot + 0.08 * side + 0.03j, (0.1, 0.022), (120, 196, 200))


def forest(brush: Brush, light: Light, layout: Layout) -> None:
    """Draw the forest."""
    sky(brush, light, layout)
    brush.rectangle(complex(LEFT, 0.30), complex(RIGHT, 0.7), (126, 176, 140))
    for k in range(12):
        pine(brush, complex(LEFT + 0.125 * k, 0.66), 1.1 + 0.25 * (k % 3), (88, 148, 112))
    ground(brush, 0.585, (122, 150, 84))
    shift = layout.choice((-0.03, 0.0, 0.03))
    for k, (x, size) in enumerate(((-0.08, 1.7), (0.14, 1.45), (0.88, 1.5), (1.07, 1.7))):
        pine(brush, complex(x + shift * (-1) ** k, 0.78 + 0.03 * (k % 2)), size, (50, 112, 78))
    for x in (0.24, 0.78):
        foot = complex(x + shift, 0.80)
        trunk = [foot + z for z in (-0.045, -0.028 - 0.9j, 0.028 - 0.9j, 0.05)]
        brush.polygon(trunk, (116, 80, 58))
        brush.stroke((foot - 0.008 - 0.7j, foot - 0.01 - 0.5j), (88, 60, 46), 0.01)
    brush.polygon([LEFT - 0.1j, RIGHT - 0.1j, RIGHT + 0.1j, *(complex(1.1 - 0.1 * k, 0.05 + 0.07 *
                   (k % 2)) for k in range(13)), LEFT + 0.1j], (60, 124, 82))  # fmt: skip
    _mushroom(brush, complex(layout.choice((0.12, 0.34)), 0.88))
    _mushroom(brush, complex(layout.choice((0.7, 0.9)), 0.84))


def _mushroom(brush: Brush, foot: complex) -> None:
    brush.stroke((foot, foot - 0.04j), (250, 240, 220), 0.028)
    cap = [foot - 0.035j + complex(0.055 * math.cos(a), -0.05 * math.sin(a))
           for a in (math.pi * k / 10 for k in range(11))]  # fmt: skip
    brush.polygon(cap, (206, 66, 58))
    for shift in (-0.025 - 0.055j, 0.02 - 0.06j):
        brush.ellipse(foot + shift, (0.009, 0.009), (255, 250, 240))


def street(brush: Brush, light: Light, layout: Layout) -> None:
    """Draw the city street."""
    sky(brush, light, layout)
    walls = ((226, 168, 142), (172, 192, 208), (236, 212, 164), (190, 176, 206), (216, 188, 176))
    first = layout.randrange(len(walls))
    step = layout.choice((0, 1))
    for k in range(6):
        top = (0.12, 0.24, 0.06, 0.2)[(k + step) % 4]
        _house(brush, light, complex(LEFT - 0.02 + 0.25 * k, top), walls[(first + k) % len(walls)])
    ground(brush, 0.70, (206, 200, 196))
    for k in range(9):
        foot = complex(LEFT + 0.18 * k, 0.70)
        brush.stroke((foot, complex(1.6 * foot.real - 0.3, 0.94)), (184, 178, 176), 0.007)
    brush.rectangle(complex(LEFT, 0.94), complex(RIGHT, 1.2), (108, 110, 122))
    for k in range(6):
        at = complex(LEFT + 0.26 * k, 0.975)
        brush.stroke((at, at + 0.1), (240, 236, 220), 0.014)
    lamp(brush, light, complex(layout.choice((0.1, 0.9)), 0.76))


def _house(brush: Brush, light: Light, corner: complex, wall: Colour) -> None:
    """A house 0.25 wide with shop below, from `corner` down to the pavement."""
    brush.rectangle(corner, complex(corner.real + 0.245, 0.71), wall)
    brush.rectangle(corner - 0.005 - 0.02j, corner + 0.25 + 0.012j, darker(wall, 0.72))
    panes = brush.glowing() if light.lamps else brush
    pane = (255, 222, 130) if light.lamps else (140, 196, 222)
    rows = int((0.50 - corner.imag) / 0.14)
    for row in range(rows):
        for column in range(2):
            at = corner + complex(0.04 + 0.105 * column, 0.045 + 0.14 * row)
            dark = light.lamps and (row + column) % 3 == 2
            panes.rectangle(at, at + 0.065 + 0.085j, (70, 78, 110) if dark else pane)
    shop = complex(corner.real + 0.03, 0.57)
    panes.rectangle(shop, shop + 0.11 + 0.10j, pane)
    brush.rectangle(shop + 0.125, shop + 0.185 + 0.14j, (132, 88, 66))
    for k in range(5):
        stripe = shop - 0.02 - 0.035j + 0.036 * k
        brush.rectangle(stripe, stripe + 0.036 + 0.04j, ((255, 250, 240), (214, 120, 116))[k % 2])


def mountain(brush: Brush, light: Light, layout: Layout) -> None:
    """Draw the snowy mountain."""
    sky(brush, light, layout)
    shift = layout.choice((-0.06, 0.0, 0.06))
    peaks = ((0.02, 0.22, 0.36), (1.0, 0.20, 0.38), (0.5, 0.06, 0.44))
    for x, top, half in peaks:
        _peak(brush, complex(x + shift, top), half)
    for k, x in enumerate((-0.15, 0.07, 0.2, 0.78, 0.92, 1.12)):
        pine(brush, complex(x - shift, 0.69), 0.75 + 0.15 * (k % 2), (62, 116, 112))
    for x in (0.0, 0.55, 1.1):
        brush.ellipse(complex(x, 0.80), (0.46, 0.15), (232, 242, 250))
    ground(brush, 0.78, (232, 242, 250))
    drift = layout.choice((0.15, 0.85))
    brush.ellipse(complex(drift, 0.82), (0.2, 0.04), (208, 226, 242))
    flakes = brush.glowing()
    for k in range(34):
        flake = complex(1.3 * (k * 0.7549 % 1.0) - 0.15, 0.95 * (k * 0.5698 % 1.0))
        size = 0.006 + 0.004 * (k % 3 == 0)
        flakes.ellipse(flake, (size, size), (255, 255, 255))


def _peak(brush: Brush, top: complex, half: float) -> None:
    foot = 0.74
    left, right = complex(top.real - half, foot), complex(top.real + half, foot)
    brush.polygon([left, top, right], (128, 150, 186))
    brush.polygon([top, right, complex(top.real + 0.08, foot)], (104, 126, 166))
    snow = [top + share * (side - top) for side, share in
            ((left, 0.42), (left, 0.0), (right, 0.42))]  # fmt: skip
    teeth = [top + complex(x * half, 0.42 * (foot - top.imag) + dip) for x, dip in
             ((0.2, -0.05), (0.06, 0.03), (-0.08, -0.05), (-0.22, 0.03))]  # fmt: skip
    brush.polygon([*snow, *teeth], (250, 252, 255))


def castle(brush: Brush, light: Light, layout: Layout) -> None:
    """Draw the castle garden."""
    sky(brush, light, layout)
    cloud(brush, light, complex(layout.choice((0.12, 0.88)), 0.26))
    at = layout.choice((0.44, 0.5, 0.56))
    _castle_walls(brush, light, at)
    ground(brush, 0.64, (142, 196, 118))
    for k in range(5):
        brush.ellipse(complex(LEFT + 0.02 + 0.16 * k - 0.02, 0.68), (0.10, 0.07), (70, 138, 84))
        brush.ellipse(complex(RIGHT - 0.02 - 0.16 * k + 0.02, 0.68), (0.10, 0.07), (70, 138, 84))
    brush.polygon([complex(at - 0.06, 0.62), complex(at + 0.06, 0.62), 0.86 + 1.1j, 0.14 + 1.1j],
                  (226, 212, 196))  # fmt: skip
    for x in (layout.choice((0.08, 0.16)), layout.choice((0.84, 0.92))):
        brush.rectangle(complex(x - 0.018, 0.66), complex(x + 0.018, 0.79), (124, 84, 58))
        for y, radius in ((0.66, 0.085), (0.55, 0.062), (0.47, 0.04)):
            brush.ellipse(complex(x, y), (radius, radius), (58, 126, 78))
    flowers(brush, 0.80, ((232, 96, 130), (250, 250, 250), (246, 190, 90)))


def _castle_walls(brush: Brush, light: Light, x: float) -> None:
    stone, roof = (206, 204, 220), (112, 104, 176)
    for side in (-1, 1):
        _tower(brush, complex(x + 0.25 * side, 0.34), (stone, roof), light)
    brush.rectangle(complex(x - 0.24, 0.42), complex(x + 0.24, 0.66), darker(stone, 0.93))
    for k in range(7):
        left = x - 0.24 + 0.071 * k
        brush.rectangle(complex(left, 0.385), complex(left + 0.04, 0.43), darker(stone, 0.93))
    _tower(brush, complex(x, 0.26), (stone, roof), light)
    brush.ellipse(complex(x, 0.57), (0.05, 0.06), (122, 80, 58))
    brush.rectangle(complex(x - 0.05, 0.57), complex(x + 0.05, 0.66), (122, 80, 58))


def _tower(brush: Brush, top: complex, colours: tuple[Colour, Colour], light: Light) -> None:
    stone, roof = colours
    brush.rectangle(top - 0.075, complex(top.real + 0.075, 0.66), stone)
    brush.rectangle(top + 0.03, complex(top.real + 0.075, 0.66), darker(stone, 0.9))
    brush.polygon([top - 0.105, top - 0.17j, top + 0.105], roof)
    brush.stroke((top - 0.17j, top - 0.225j), (90, 84, 96), 0.008)
    brush.polygon([top - 0.225j, top - 0.205j + 0.07, top - 0.185j], (240, 120, 120))
    pane = brush.glowing() if light.lamps else brush
    pane.ellipse(top + 0.08j, (0.022, 0.034), (255, 222, 130) if light.lamps else (86, 92, 124))


def desert(brush: Brush, light: Light, layout: Layout) -> None:
    """Draw the desert."""
    sky(brush, light, layout)
    mesa = layout.choice((0.2, 0.8))
    for x, top, half in ((mesa, 0.38, 0.2), (mesa - 0.28, 0.47, 0.12), (1.05 - mesa, 0.5, 0.1)):
        brush.polygon([complex(x - half, 0.66), complex(x - 0.75 * half, top),
                       complex(x + 0.7 * half, top), complex(x + half, 0.66)],
                      (178, 84, 58))  # fmt: skip
        brush.rectangle(complex(x - 0.84 * half, top + 0.05), complex(x + 0.8 * half, top + 0.08),
                        (206, 112, 74))  # fmt: skip
    for x, y, colour in ((0.0, 0.76, (240, 164, 84)), (0.62, 0.78, (230, 148, 72)),
                         (1.15, 0.76, (240, 164, 84))):  # fmt: skip
        brush.ellipse(complex(x, y), (0.46, 0.18), colour)
    ground(brush, 0.74, (246, 178, 96))
    for k in range(6):
        at = complex(LEFT + 0.24 * k + 0.1 * (k % 2), 0.80 + 0.03 * (k % 3))
        brush.stroke((at, at + 0.05 - 0.012j, at + 0.13), (222, 146, 72), 0.01)
    side = layout.choice((-1, 1))
    _cactus(brush, complex(0.5 - 0.42 * side, 0.82), 1.15)
    _cactus(brush, complex(0.5 + 0.36 * side, 0.76), 0.75)


def _cactus(brush: Brush, foot: complex, size: float) -> None:
    green, ridge = (44, 138, 78), (96, 180, 104)
    trunk = (foot, foot - 0.42j * size)
    for side, low, high in ((-1, 0.16, 0.30), (1, 0.22, 0.36)):
        elbow = foot + size * complex(0.1 * side, -low)
        arm = (foot - 1j * low * size, elbow, elbow - 1j * (high - low) * size)
        brush.stroke(arm, green, 0.05 * size)
    brush.stroke(trunk, green, 0.085 * size)
    for x in (-0.016, 0.016):
        brush.stroke((foot + size * x, foot + size * (x - 0.41j)), ridge, 0.01 * size)
    brush.ellipse(foot - 0.47j * size, (0.03 * size, 0.022 * size), (255, 120, 160))
