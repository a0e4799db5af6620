"""From scenes and clips to pixels."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from storyreel.training.world.actions import Pose, mixed, pose_of
from storyreel.training.world.bodies import body_centre, draw_body, draw_figure
from storyreel.training.world.brush import Brush, Tint
from storyreel.training.world.characters import LOOKS
from storyreel.training.world.frames import (
    draw_mirror_frame,
    draw_portrait_frame,
    free_side,
    opening,
)
from storyreel.training.world.places import INDOORS, PLACE_DRAWINGS
from storyreel.training.world.places.scenery import LIGHTS, Layout
from storyreel.training.world.records import PALETTE, Camera, Clip, Figure, Scene, Sighting

Pixels = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]

_FINE = 3  # every picture is drawn this many times larger and averaged down
_GROUND = 0.91  # where the feet stand, as a share of the picture's height
_REFLECTED = 0.88  # height of a mirror image as a share of the figure's
_BEHIND = -0.09j  # how much higher than the figure its mirror image stands
_WHITE: Tint = (1000, 1000, 1000)  # a light in which every colour is white
_SEAM = 0.2  # width of the soft seam between two places, as a share of the picture's


def draw(scene: Scene, size: int = 128) -> Pixels:
    """The picture of `scene`: RGB uint8 of shape (size, size, 3)."""
    return _averaged(_picture(scene, _checked(size) * _FINE))


def mask(scene: Scene, size: int = 128) -> npt.NDArray[np.bool_]:
    """Masks of the bodies of `scene.figures` with what they hold: bool of shape (size, size).

    Images of them in a mirror or a portrait are left out, so is what stands around them.
    """
    image = Image.new("RGB", (_checked(size) * _FINE,) * 2)
    brush = _brush(image, scene.camera, _WHITE)
    for figure in _far_to_near(scene.figures):
        draw_body(_figure_frame(brush, figure), figure, pose_of(figure.action, figure.phase))
    return np.asarray(_averaged(image).max(axis=-1) > 127)


def figures_of(scene: Scene) -> list[Sighting]:
    """Everybody in the picture of `scene`: first `scene.figures` in their order, then the mirror
    image or the portrait."""
    _require("place", scene.place, PLACE_DRAWINGS)
    brush = _brush(Image.new("RGB", (1, 1)), scene.camera, _WHITE)
    seen = [_sighting(brush, figure, "figure") for figure in scene.figures]
    if scene.mirror:
        seen.append(_sighting(brush.moved(origin=_BEHIND), _reflection(scene), "mirror"))
    if scene.portrait is not None:
        seen += [_hung(scene, sighting) for sighting in figures_of(scene.portrait)]
    return seen


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


def _picture(scene: Scene, pixels: int) -> Image.Image:
    image = _backdrop(scene, pixels)
    _add_mirror(image, scene)
    _add_portrait(image, scene)
    brush = _brush(image, scene.camera, _figure_tint(scene))
    for figure in _far_to_near(scene.figures):
        _add_figure(brush, figure, pose_of(figure.action, figure.phase))
    return image


def _far_to_near(figures: Sequence[Figure]) -> list[Figure]:
    return sorted(figures, key=lambda figure: figure.scale)


def _add_mirror(image: Image.Image, scene: Scene) -> None:
    if not scene.mirror:
        return
    x = free_side(scene)
    brush = _brush(image, scene.camera, _figure_tint(scene))
    draw_mirror_frame(brush, x)
    box = opening(brush, x)
    glass = image.crop(box)
    inside = replace(
        brush, canvas=ImageDraw.Draw(glass), origin=brush.origin - complex(box[0], box[1])
    )
    figure = _reflection(scene)
    _add_figure(inside.moved(origin=_BEHIND), figure, pose_of(figure.action, figure.phase))
    image.paste(glass, box[:2])


def _reflection(scene: Scene) -> Figure:
    figure = scene.figures[0]
    return replace(
        figure, x=free_side(scene), scale=_REFLECTED * figure.scale, facing=-figure.facing
    )


def _add_portrait(image: Image.Image, scene: Scene) -> None:
    if scene.portrait is None:
        return
    x = free_side(scene)
    brush = _brush(image, scene.camera, _figure_tint(scene))
    draw_portrait_frame(brush, x)
    left, top, right, bottom = opening(brush, x)
    painted = _picture(scene.portrait, bottom - top)
    margin = (bottom - top - (right - left)) // 2
    image.paste(painted.crop((margin, 0, margin + right - left, bottom - top)), (left, top))


def _hung(scene: Scene, sighting: Sighting) -> Sighting:
    """The position in the picture of `scene` of a figure in the portrait's own picture."""
    brush = _brush(Image.new("RGB", (1000, 1000)), scene.camera, _WHITE)
    left, top, right, bottom = opening(brush, free_side(scene))
    side = (bottom - top) / 1000
    return replace(
        sighting,
        where="portrait",
        x=(left + right) / 2000 + (sighting.x - 0.5) * side,
        y=top / 1000 + sighting.y * side,
        size=sighting.size * side,
    )


def _sighting(brush: Brush, figure: Figure, where: Literal["figure", "mirror"]) -> Sighting:
    """The contents and position of `figure`; `brush` draws on a picture one pixel wide."""
    frame = _figure_frame(brush, figure)
    centre = body_centre(frame, pose_of(figure.action, figure.phase))
    return Sighting(
        where=where,
        character=figure.character,
        action=figure.action,
        outfit=figure.outfit,
        x=centre.real,
        y=centre.imag,
        size=abs(frame.at(1j) - frame.at(0j)),
        facing=figure.facing,
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


def _add_figure(brush: Brush, figure: Figure, pose: Pose) -> None:
    _require("character", figure.character, LOOKS)
    for part in (figure.outfit.top, figure.outfit.bottom, figure.outfit.hat):
        _require("outfit", part, PALETTE)
    draw_figure(_figure_frame(brush, figure), figure, pose)


def _figure_frame(brush: Brush, figure: Figure) -> Brush:
    """The frame in which a figure is drawn, inside the frame of the picture."""
    ground = complex(figure.x, _GROUND)
    if figure.facing > 0:
        return brush.moved(direct=0, mirrored=figure.scale, origin=ground)
    return brush.moved(direct=-figure.scale, origin=ground)


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
    brush = _brush(image, scene.camera, _mixed_tint(_figure_tint(start), _figure_tint(end), mix))
    actions = zip(scene.figures, start.figures, end.figures, strict=True)
    for figure, first, last in sorted(actions, key=lambda trio: trio[0].scale):
        leaving, coming = pose_of(first.action, figure.phase), pose_of(last.action, figure.phase)
        _add_figure(brush, figure, mixed(leaving, coming, mix))
    return _averaged(image)


def _mixed_tint(start: Tint, end: Tint, share: float) -> Tint:
    red, green, blue = ((1 - share) * a + share * b for a, b in zip(start, end, strict=True))
    return (red, green, blue)
