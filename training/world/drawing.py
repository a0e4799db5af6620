"""From scenes and clips to pixels."""

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from training.world.actions import Pose, mixed, pose_of
from training.world.bodies import draw_figure
from training.world.brush import Brush, Tint
from training.world.characters import LOOKS
from training.world.places import INDOORS, LIGHTS, PLACE_DRAWINGS, Layout
from training.world.records import PALETTE, Camera, Clip, Figure, Scene

Pixels = npt.NDArray[np.uint8]

_FINE = 3  # every picture is drawn this many times larger and averaged down
_GROUND = 0.89  # where the feet stand, as a share of the picture's height
_SEAM = 0.2  # width of the soft seam between two places, as a share of the picture's


def draw(scene: Scene, size: int = 128) -> Pixels:
    """The picture of `scene`: RGB uint8 of shape (size, size, 3)."""
    image = _backdrop(scene, _checked(size) * _FINE)
    for figure in scene.figures:
        pose = pose_of(figure.action, figure.phase)
        _add_figure(image, figure, pose, camera=scene.camera, tint=_figure_tint(scene))
    return _averaged(image)


def draw_clip(clip: Clip, size: int = 128) -> Pixels:
    """The frames of `clip`: RGB uint8 of shape (frames, size, size, 3).

    Between two places the picture pans sideways from the first to the last while the figure
    stays in it and its pose changes from the one action to the other.
    """
    if clip.mixes[-1] == 0.0:
        return np.stack([draw(scene, size) for scene in clip.scenes])
    start, end = clip.scenes[0], clip.scenes[-1]
    strip = _panorama(start, end, _checked(size) * _FINE)
    return np.stack(
        [
            _frame_between(strip, (start, scene, end), mix)
            for scene, mix in zip(clip.scenes, clip.mixes, strict=True)
        ]
    )


def _checked(size: int) -> int:
    if size < 8:
        raise ValueError(f"size: {size} pixels is not at least 8")
    return size


def _require(what: str, name: str, table: Collection[str]) -> None:
    if name not in table:
        raise ValueError(f"{what}: {name!r} is not one of {', '.join(table)}")


def _averaged(image: Image.Image) -> Pixels:
    return np.asarray(image.reduce(_FINE))


def _brush(image: Image.Image, camera: Camera, tint: Tint) -> Brush:
    """A brush for picture coordinates ([0, 1], y downwards) seen through `camera`."""
    pixels = image.height
    centre = complex(0.5 + camera.pan_x, 0.6)
    return Brush(
        canvas=ImageDraw.Draw(image),
        direct=complex(pixels * camera.zoom),
        mirrored=0j,
        origin=pixels * (complex(0.5, 0.6) - camera.zoom * centre),
        tint=tint,
    )


def _backdrop(scene: Scene, pixels: int) -> Image.Image:
    _require("place", scene.place, PLACE_DRAWINGS)
    _require("time_of_day", scene.time_of_day, LIGHTS)
    light = LIGHTS[scene.time_of_day]
    tint = light.indoors if scene.place in INDOORS else light.outdoors
    image = Image.new("RGB", (pixels, pixels))
    brush = _brush(image, scene.camera, tint)
    PLACE_DRAWINGS[scene.place](brush, light, Layout(scene.layout_seed))
    return image


def _figure_tint(scene: Scene) -> Tint:
    return LIGHTS[scene.time_of_day].figure


def _add_figure(
    image: Image.Image, figure: Figure, pose: Pose, *, camera: Camera, tint: Tint
) -> None:
    _require("character", figure.character, LOOKS)
    for part in (figure.outfit.top, figure.outfit.bottom, figure.outfit.hat):
        _require("outfit", part, PALETTE)
    ground = complex(figure.x, _GROUND)
    brush = _brush(image, camera, tint)
    if figure.facing > 0:
        brush = brush.moved(direct=0, mirrored=figure.scale, origin=ground)
    else:
        brush = brush.moved(direct=-figure.scale, origin=ground)
    draw_figure(brush, figure, pose)


def _panorama(start: Scene, end: Scene, pixels: int) -> Image.Image:
    """Both places side by side, with a seam in which their mirrored edges fade over."""
    left, right = _backdrop(start, pixels), _backdrop(end, pixels)
    seam = round(_SEAM * pixels)
    mirrored = Image.Transpose.FLIP_LEFT_RIGHT
    fade = Image.linear_gradient("L").rotate(90).resize((seam, pixels))
    leaving = left.crop((pixels - seam, 0, pixels, pixels)).transpose(mirrored)
    coming = right.crop((0, 0, seam, pixels)).transpose(mirrored)
    strip = Image.new("RGB", (2 * pixels + seam, pixels))
    strip.paste(left, (0, 0))
    strip.paste(Image.composite(coming, leaving, fade), (pixels, 0))
    strip.paste(right, (pixels + seam, 0))
    return strip


def _frame_between(strip: Image.Image, scenes: tuple[Scene, Scene, Scene], mix: float) -> Pixels:
    """One frame on the way; `scenes` are the first, the present and the last."""
    start, scene, end = scenes
    pixels = strip.height
    shift = round(mix * (strip.width - pixels))
    image = strip.crop((shift, 0, shift + pixels, pixels))
    (figure,) = scene.figures
    pose = mixed(
        pose_of(start.figures[0].action, figure.phase),
        pose_of(end.figures[0].action, figure.phase),
        mix,
    )
    tint = _mixed_tint(_figure_tint(start), _figure_tint(end), mix)
    _add_figure(image, figure, pose, camera=scene.camera, tint=tint)
    return _averaged(image)


def _mixed_tint(start: Tint, end: Tint, share: float) -> Tint:
    red, green, blue = ((1 - share) * a + share * b for a, b in zip(start, end, strict=True))
    return (red, green, blue)
