"""A dressed figure in a pose, and the things it holds or rests on."""

import cmath
import math
from itertools import pairwise

from storyreel.training.world.actions import Pose
from storyreel.training.world.brush import Brush, darker
from storyreel.training.world.characters import LOOKS, Look, eyes
from storyreel.training.world.records import PALETTE, Colour, Figure

_HIP = 0.32j
HEAD = 0.215
"""Radius of a head in figure heights."""
_WOOD: Colour = (176, 122, 74)
_PAPER: Colour = (255, 250, 236)
_LINEN: Colour = (222, 206, 190)


def draw_figure(brush: Brush, figure: Figure, pose: Pose) -> None:
    """Draw `figure` in `pose`; `brush` has its origin at the point of the ground below the
    figure, x to the figure's front, y upwards, and the figure's height as its unit."""
    _shadow(brush, pose)
    _seat(brush, pose.seat)
    _bed(brush, pose.bed)
    draw_body(brush, figure, pose)
    _dreams(brush, pose.bed, figure)
    _music(brush, pose.notes, figure.phase)
    _dust(brush, pose.dust, figure.phase)


def draw_body(brush: Brush, figure: Figure, pose: Pose) -> None:
    """The figure itself with what it holds in its hands, without what stands around it."""
    _body(_body_frame(brush, pose), figure, LOOKS[figure.character], pose)


def body_centre(brush: Brush, pose: Pose) -> complex:
    """The pixel of the middle of a body that `draw_body` would draw in `pose`."""
    return _body_frame(brush, pose).at(0.5j)


def _body_frame(brush: Brush, pose: Pose) -> Brush:
    return brush.moved(direct=_turned(pose.turn), origin=complex(pose.forward, pose.lift))


def _turned(degrees: float) -> complex:
    return cmath.rect(1.0, math.radians(degrees))


def _hanging(degrees: float) -> complex:
    """The direction of a limb `degrees` to the front of hanging straight down."""
    return -1j * _turned(degrees)


def _body(body: Brush, figure: Figure, look: Look, pose: Pose) -> None:
    torso = body.moved(direct=_turned(-pose.lean), origin=_HIP)
    coat = PALETTE[figure.outfit.top]
    if look.tail is not None:
        root = -0.05 + 0.3j
        upright = _turned(-0.9 * pose.turn)  # a lying figure's tail stays above the ground
        look.tail(body.moved(direct=upright, origin=root - upright * root), look.skin)
    far = (0.10 * look.stout, pose.far_shoulder, pose.far_elbow)
    near = (-0.10 * look.stout, pose.near_shoulder, pose.near_elbow)
    if not _raised(far):
        _arm(torso, look, coat, far)
    _lower(body, figure, pose)
    _coat(torso, coat, look.stout * (1 + pose.breath))
    if pose.book > 0:
        _book(torso, pose)
    if not _raised(near):
        _arm(torso, look, coat, near)
    _head(torso, figure, look, pose)
    for arm in filter(_raised, (far, near)):
        _arm(torso, look, coat, arm)
    _food(torso, pose, near)
    _kite(torso, pose, (far, figure.phase))


def _raised(joint: tuple[float, float, float]) -> bool:
    """True if the arm reaches the head, which must not hide it."""
    return abs(joint[1]) > 80


def _joints(joint: tuple[float, float, float]) -> tuple[complex, complex, complex]:
    """Shoulder, elbow and hand in the frame of the torso."""
    x, shoulder, elbow = joint
    top = complex(x, 0.225)
    middle = top + 0.135 * _hanging(shoulder)
    return top, middle, middle + 0.13 * _hanging(shoulder + elbow)


def _arm(torso: Brush, look: Look, coat: Colour, joint: tuple[float, float, float]) -> None:
    top, middle, hand = _joints(joint)
    torso.ellipse(hand, (0.05, 0.05), look.skin, outline=0.012)
    torso.limb((top, middle, middle + 0.68 * (hand - middle)), coat, 0.088)


def _lower(body: Brush, figure: Figure, pose: Pose) -> None:
    """Legs, and the skirt or the seat of the trousers."""
    look = LOOKS[figure.character]
    cloth = PALETTE[figure.outfit.bottom]
    legs = cloth if look.legs is None else look.legs
    _leg(body, look, legs, (0.068 * look.stout, pose.far_hip, pose.far_knee))
    _leg(body, look, legs, (-0.068 * look.stout, pose.near_hip, pose.near_knee))
    if look.skirt:
        _skirt(body, cloth, pose)
    else:
        body.ellipse(_HIP + 0.005j, (0.138 * look.stout, 0.075), cloth)


def _leg(body: Brush, look: Look, colour: Colour, joint: tuple[float, float, float]) -> None:
    x, hip, knee = joint
    top = _HIP + x
    middle = top + 0.14 * _hanging(hip)
    ankle = middle + 0.12 * _hanging(hip - knee)
    forward = _turned(hip - knee)
    shoe = body.moved(direct=forward, origin=ankle)
    shoe.ellipse(0.03 - 0.03j, (0.085, 0.045), look.shoes, outline=0.012)
    body.limb((top, middle, ankle), colour, 0.11 if look.legs is None else 0.075)


def _skirt(body: Brush, cloth: Colour, pose: Pose) -> None:
    """A bell whose hem follows the thighs."""
    hips = sorted((pose.near_hip, pose.far_hip))
    back = _HIP - 0.06 + 0.20 * _hanging(0.55 * hips[0] - 22)
    front = _HIP + 0.06 + 0.20 * _hanging(0.75 * hips[1] + 22)
    middle = 0.5 * (back + front) + 0.03 * _hanging(0.5 * (hips[0] + hips[1]))
    body.polygon([_HIP - 0.11 + 0.05j, back, middle, front, _HIP + 0.11 + 0.05j],
                 cloth, outline=0.014)  # fmt: skip


def _coat(torso: Brush, colour: Colour, width: float) -> None:
    half = 0.128 * width
    shape = [complex(-0.8 * half, 0.275), complex(0.8 * half, 0.275), complex(1.05 * half, 0.2),
             complex(1.18 * half, -0.01), complex(0.6 * half, -0.03), complex(-0.6 * half, -0.03),
             complex(-1.18 * half, -0.01), complex(-1.05 * half, 0.2)]  # fmt: skip
    torso.polygon(shape, colour, outline=0.014)
    for y in (0.16, 0.09, 0.02):
        torso.ellipse(complex(0.05, y), (0.014, 0.014), darker(colour, 0.55))


def _head(torso: Brush, figure: Figure, look: Look, pose: Pose) -> None:
    head = torso.moved(direct=HEAD * _turned(-pose.nod), origin=0.012 + 0.452j)
    accessory = PALETTE[figure.outfit.hat]
    look.behind(head, look.skin)
    look.face(head, look.skin)
    if figure.character != "robot":
        eyes(head, pose.eyes, pose.smile)
    if look.nose is not None:
        look.nose(head)
    if look.hat is not None:
        look.hat(head, accessory)
    else:
        _scarf(torso, accessory, look.stout)


def _scarf(torso: Brush, colour: Colour, width: float) -> None:
    torso.polygon([-0.10 + 0.25j, -0.03 + 0.24j, -0.045 + 0.05j, -0.14 + 0.06j],
                  colour, outline=0.014)  # fmt: skip
    torso.ellipse(0.262j, (0.145 * width, 0.058), colour, outline=0.014)


def _book(torso: Brush, pose: Pose) -> None:
    book = torso.moved(direct=1.25 * pose.book * _turned(-10), origin=0.27 + 0.12j)
    book.polygon([-0.16 + 0.02j, -0.15 + 0.19j, 0.03j + 0.15j, 0.15 + 0.2j, 0.16 + 0.03j, -0.04j],
                 (150, 84, 60), outline=0.012)  # fmt: skip
    for side in (-1, 1):
        book.polygon([complex(0.135 * side, 0.045), complex(0.125 * side, 0.195), 0.155j, -0.015j],
                     _PAPER)  # fmt: skip
        for y in (0.06, 0.1, 0.14):
            book.stroke((complex(0.03 * side, y - 0.02), complex(0.1 * side, y + 0.02)),
                        (176, 164, 156), 0.01)  # fmt: skip
    flip = math.cos(math.pi * pose.page)
    rise = 0.07 * math.sin(math.pi * pose.page)
    book.polygon([complex(0.13 * flip, 0.04 + rise), complex(0.12 * flip, 0.19 + rise),
                  0.155j, -0.015j], (236, 226, 206), outline=0.008)  # fmt: skip


def _food(torso: Brush, pose: Pose, near: tuple[float, float, float]) -> None:
    """A slice of melon that comes up to the mouth with the hands."""
    if pose.food <= 0:
        return
    hand = _joints(near)[2]
    melon = torso.moved(direct=pose.food * _turned(14), origin=hand + 0.05)
    arc = [cmath.rect(1.0, math.pi * (1 + k / 12)) for k in range(13)]
    for radius, colour in ((0.205, (24, 122, 48)), (0.18, (226, 244, 196)), (0.16, (240, 60, 78))):
        melon.polygon([radius * point + 0.05j for point in arc], colour)
    for seed in (-0.09 + 0.005j, -0.03 - 0.045j, 0.03 + 0.005j, 0.085 - 0.02j):
        melon.ellipse(seed, (0.013, 0.018), (46, 26, 30))
    torso.ellipse(hand - 0.02j, (0.04, 0.04), (250, 236, 220), outline=0.012)


def _kite(torso: Brush, pose: Pose, held: tuple[tuple[float, float, float], float]) -> None:
    """A kite on a string; `held` is the arm that holds it and the phase of its sway."""
    if pose.kite <= 0:
        return
    arm, phase = held
    swing = math.sin(2 * math.pi * phase)
    at = complex(0.48 + 0.04 * swing, 0.66 + 0.035 * math.sin(4 * math.pi * phase))
    kite = torso.moved(direct=1.2 * pose.kite * _turned(-24 - 14 * swing), origin=at)
    torso.stroke((_joints(arm)[2], at), (250, 250, 250), 0.012)
    tail = [complex(0.035 * math.sin(9 * t + 6 * phase), -0.16 - 0.3 * t) for t in
            (0, 0.12, 0.25, 0.38, 0.5, 0.62, 0.75)]  # fmt: skip
    kite.stroke(tail, (250, 250, 250), 0.012)
    for k, knot in enumerate(tail[2::2]):
        kite.ellipse(knot, (0.03, 0.018), ((255, 92, 160), (64, 210, 220))[k % 2])
    top, right, low, left = 0.15j, 0.115 + 0.02j, -0.17j, -0.115 + 0.02j
    corners = (top, right, low, left, top)
    for k, pair in enumerate(pairwise(corners)):
        kite.polygon([0.02j, *pair], ((255, 92, 160), (64, 210, 220))[k % 2])
    kite.stroke(corners, (96, 30, 96), 0.014)


def _shadow(brush: Brush, pose: Pose) -> None:
    reach = 0.2 - 0.16 * min(0.5, max(0.0, pose.lift)) + 0.28 * pose.turn / 90
    brush.ellipse(
        complex(pose.forward * (1 - pose.turn / 90), -0.005), (reach, 0.035), (88, 84, 92)
    )


def _seat(brush: Brush, size: float) -> None:
    if size > 0:
        stool = brush.moved(direct=size, origin=-0.07)
        stool.polygon([-0.21 - 0.02j, -0.19 + 0.15j, 0.19 + 0.15j, 0.21 - 0.02j], _WOOD,
                      outline=0.014)  # fmt: skip
        stool.ellipse(0.155j, (0.2, 0.04), (222, 180, 124), outline=0.012)


def _bed(brush: Brush, size: float) -> None:
    if size > 0:
        bed = brush.moved(direct=size)
        bed.limb((-0.45 + 0.045j, 0.47 + 0.045j), _LINEN, 0.15)
        bed.ellipse(-0.32 + 0.14j, (0.2, 0.1), (246, 240, 246), outline=0.012)


def _dreams(brush: Brush, size: float, figure: Figure) -> None:
    """Two letters z that rise and grow, one after another; never mirrored with the figure."""
    if size <= 0:
        return
    for k in range(2):
        rise = (figure.phase + k / 2) % 1.0
        at = complex(-0.30 + 0.26 * rise, 0.44 + 0.46 * rise)
        half = size * (0.03 + 0.045 * math.sin(math.pi * rise))
        side = figure.facing
        corners = (complex(-side, 1), complex(side, 1), complex(-side, -1), complex(side, -1))
        letter = [at + half * corner for corner in corners]
        brush.stroke(letter, (255, 255, 255), 0.045)
        brush.stroke(letter, (84, 84, 150), 0.022)


def _music(brush: Brush, size: float, phase: float) -> None:
    if size <= 0:
        return
    for k, x in enumerate((-0.42, 0.42, 0.30)):
        rise = (phase + k / 3) % 1.0
        at = complex(x + 0.04 * math.sin(7 * rise), 0.5 + 0.45 * rise)
        note = brush.moved(direct=size * (0.6 + 0.4 * math.sin(math.pi * rise)), origin=at)
        for colour, width in (((255, 255, 255), 0.05), ((70, 50, 110), 0.024)):
            note.stroke((0.035 + 0j, 0.035 + 0.13j, 0.09 + 0.10j), colour, width)
            note.ellipse(0j, (0.022 + width / 2, 0.016 + width / 2), colour)


def _dust(brush: Brush, size: float, phase: float) -> None:
    if size <= 0:
        return
    for k in range(3):
        age = (2 * phase + k / 3) % 1.0
        radius = size * 0.065 * (1 - age)
        brush.ellipse(complex(-0.24 - 0.3 * age, 0.03 + 0.06 * age), (radius, radius),
                      (238, 228, 214))  # fmt: skip
