"""Scenes and clips drawn at random."""

from dataclasses import replace

import numpy as np

from storyreel.training.world.actions import CYCLES, REACHES, STRIDES
from storyreel.training.world.characters import LOOKS
from storyreel.training.world.records import (
    ACTIONS,
    CHARACTERS,
    PALETTE,
    PLACES,
    TIMES,
    Camera,
    Clip,
    Figure,
    Outfit,
    Scene,
)

LAYOUTS = 32
_COMPANIES = ("one", "twice", "mirror", "portrait", "two", "nobody")
_SHARES = (0.42, 0.20, 0.06, 0.17, 0.12, 0.03)
_ROOM = 0.87  # the height above the ground that every camera shows
_MARGIN = 0.05  # of the picture's width on both sides that a camera may cut off
_UPRIGHT = ("waving", "dancing", "sitting", "reading", "eating", "walking", "running", "jumping")


def sample_scene(rng: np.random.Generator) -> Scene:
    """One picture: one figure, two different figures, nobody, or one figure that is seen twice
    (in person, in a mirror or in a portrait), so that far-apart parts must agree."""
    kind = str(rng.choice(_COMPANIES, p=_SHARES))
    if kind == "portrait":
        return _with_portrait(rng)
    if kind == "mirror":
        figure = replace(_figure(rng), action=_pick(rng, _UPRIGHT))
        return replace(_scene(rng, figures=(_aside(rng, figure),)), mirror=True)
    return _scene(rng, figures=_company(rng, kind))


def sample_clip(rng: np.random.Generator, num_frames: int = 16) -> Clip:
    """A clip of `num_frames` frames, 45 % of them inside one place, 55 % leading one figure (or
    two that go along) from one place and action to another, clothes kept, as the neighbours of a
    story do."""
    if num_frames < 2:
        raise ValueError(f"num_frames: {num_frames} is not at least 2")
    if rng.random() < 0.45:
        return _clip_inside(rng, num_frames)
    return _clip_between(rng, num_frames)


def fitted(figures: tuple[Figure, ...]) -> tuple[Figure, ...]:
    """The figures, left before right, made so small and moved so far that all of one is in the
    picture, and that two leave each other's clothes free."""
    if len(figures) < 2:
        return tuple(_fitted(figure, 0.86) for figure in figures)
    left, right = (_fitted(_inwards(figure), 0.54) for figure in figures)
    apart = 0.34 * (left.scale + right.scale)
    return (left, replace(right, x=max(right.x, left.x + apart)))


def _scene(rng: np.random.Generator, *, figures: tuple[Figure, ...]) -> Scene:
    return Scene(
        place=_pick(rng, PLACES),
        time_of_day=_pick(rng, TIMES, (0.5, 0.22, 0.28)),
        layout_seed=int(rng.integers(LAYOUTS)),
        figures=figures,
        camera=_camera(rng),
    )


def _camera(rng: np.random.Generator) -> Camera:
    return Camera(pan_x=float(rng.uniform(-0.04, 0.04)), zoom=float(rng.uniform(1.0, 1.06)))


def _pick(
    rng: np.random.Generator, names: tuple[str, ...], shares: tuple[float, ...] | None = None
) -> str:
    return str(rng.choice(names, p=shares))


def _outfit(rng: np.random.Generator) -> Outfit:
    colours = tuple(PALETTE)
    return Outfit(top=_pick(rng, colours), bottom=_pick(rng, colours), hat=_pick(rng, colours))


def _figure(rng: np.random.Generator) -> Figure:
    return Figure(
        character=_pick(rng, CHARACTERS),
        outfit=_outfit(rng),
        action=_pick(rng, ACTIONS),
        phase=float(rng.random()),
        x=float(rng.uniform(0.42, 0.58)),
        scale=float(rng.uniform(0.74, 0.84)),
        facing=int(rng.choice((-1, 1))),
    )


def _company(rng: np.random.Generator, kind: str) -> tuple[Figure, ...]:
    first = _figure(rng)
    if kind == "nobody":
        return ()
    if kind == "one":
        return fitted((first,))
    second = _twin(rng, first) if kind == "twice" else _companion(rng, first)
    return _side_by_side(rng, first, second)


def _twin(rng: np.random.Generator, first: Figure) -> Figure:
    """The same figure, in three of five at the same action, turned either way."""
    action = first.action if rng.random() < 0.6 else _other(rng, ACTIONS, first.action)
    return replace(first, action=action, facing=int(rng.choice((-1, 1))))


def _other(rng: np.random.Generator, names: tuple[str, ...], but: str) -> str:
    return _pick(rng, tuple(name for name in names if name != but))


def _companion(rng: np.random.Generator, first: Figure) -> Figure:
    action = first.action if rng.random() < 0.5 else _pick(rng, ACTIONS)
    return replace(_figure(rng), character=_other(rng, CHARACTERS, first.character), action=action)


def _side_by_side(rng: np.random.Generator, first: Figure, second: Figure) -> tuple[Figure, ...]:
    """Two figures on two sides, one of them often farther away."""
    left = replace(first, x=float(rng.uniform(0.22, 0.34)))
    right = replace(second, x=float(rng.uniform(0.66, 0.78)), phase=float(rng.random()))
    pair = (left, right)
    return fitted(tuple(replace(one, scale=float(rng.uniform(0.48, 0.66))) for one in pair))


def _inwards(figure: Figure) -> Figure:
    """Turn kite flyers at the sides to the middle, where there is room for the string."""
    if figure.action != "flying a kite":
        return figure
    return replace(figure, facing=1 if figure.x < 0.5 else -1)


def _aside(rng: np.random.Generator, figure: Figure) -> Figure:
    """The figure on one side, so that the other is free for a mirror or a portrait."""
    x = 0.5 + float(rng.choice((-1, 1))) * float(rng.uniform(0.24, 0.27))
    moved = replace(figure, x=x, scale=float(rng.uniform(0.54, 0.64)))
    return _fitted(_inwards(moved), 0.54)


def _fitted(figure: Figure, width: float) -> Figure:
    """The figure made so small, and moved so far, that all of it is in the picture.

    `width` is the share of the picture's width that it may fill; kites may reach farther."""
    back, front, above = REACHES[figure.action]
    height = LOOKS[figure.character].height + above
    across = back + 0.4 if figure.action == "flying a kite" else back + front
    scale = min(figure.scale, _ROOM / height, width / across)
    left, right = (back, front) if figure.facing > 0 else (front, back)
    least, most = left * scale + _MARGIN, 1 - right * scale - _MARGIN
    x = min(max(figure.x, least), most) if least < most else 0.5 * (least + most)
    return replace(figure, scale=scale, x=x)


def _with_portrait(rng: np.random.Generator) -> Scene:
    """A figure beside its portrait: the same clothes elsewhere, at another time and action."""
    figure = _aside(rng, _figure(rng))
    scene = _scene(rng, figures=(figure,))
    painted = _elsewhere(rng, scene)
    upright = _other(rng, _UPRIGHT, figure.action)
    inside = _fitted(replace(painted.figures[0], action=upright), 0.54)
    back, front, _ = REACHES[inside.action]
    middle = 0.5 - 0.5 * inside.scale * inside.facing * (front - back)
    return replace(
        scene,
        portrait=replace(
            painted,
            figures=(replace(inside, x=middle),),
            camera=Camera(zoom=painted.camera.zoom),
            time_of_day=_other(rng, TIMES, scene.time_of_day),
        ),
    )


def _clip_inside(rng: np.random.Generator, num_frames: int) -> Clip:
    kind = _pick(rng, ("one", "twice", "two"), (0.75, 0.10, 0.15))
    scene = _scene(rng, figures=_company(rng, kind))
    room = 0.72 if kind == "one" else 0.2
    pace = float(rng.uniform(0.85, 1.15))
    end = _camera(rng)
    return Clip(
        scenes=tuple(
            replace(
                scene,
                figures=tuple(_acted(f, time, pace=pace, room=room) for f in scene.figures),
                camera=_between(scene.camera, end, time),
            )
            for time in np.linspace(0.0, 1.0, num_frames).tolist()
        ),
        mixes=(0.0,) * num_frames,
    )


def _acted(figure: Figure, time: float, *, pace: float, room: float) -> Figure:
    """The figure at `time` in [0, 1] of a clip; half its way lies before its own x."""
    step = STRIDES.get(figure.action, 0.0) * figure.facing * pace * room
    phase = (figure.phase + CYCLES[figure.action] * pace * time) % 1.0
    return replace(figure, phase=phase, x=figure.x + step * (time - 0.5))


def _between(start: Camera, end: Camera, share: float) -> Camera:
    return Camera(
        pan_x=(1 - share) * start.pan_x + share * end.pan_x,
        zoom=(1 - share) * start.zoom + share * end.zoom,
    )


def _clip_between(rng: np.random.Generator, num_frames: int) -> Clip:
    start = _scene(rng, figures=_company(rng, _pick(rng, ("one", "two"), (0.9, 0.1))))
    end = _elsewhere(rng, start)
    pace = float(rng.uniform(0.85, 1.15))
    times = np.linspace(0.0, 1.0, num_frames).tolist()
    mixes = tuple(_eased(time) for time in times)
    return Clip(
        scenes=tuple(
            _on_the_way(start, end, time, mix=mix, pace=pace)
            for time, mix in zip(times, mixes, strict=True)
        ),
        mixes=mixes,
    )


def _elsewhere(rng: np.random.Generator, start: Scene) -> Scene:
    """A scene in another place, with the same figures in the same clothes at other actions."""
    place = _other(rng, PLACES, start.place)
    end = _scene(rng, figures=_moved(rng, start.figures))
    kept = start.time_of_day if rng.random() < 0.6 else end.time_of_day
    return replace(end, place=place, time_of_day=kept)


def _moved(rng: np.random.Generator, figures: tuple[Figure, ...]) -> tuple[Figure, ...]:
    """The same figures at other actions; two of them keep their sides and do the same."""
    grounded = tuple(name for name in ACTIONS if len(figures) == 1 or name != "flying a kite")
    action = _other(rng, grounded, figures[0].action)
    acting = [replace(figure, action=action) for figure in figures]
    if len(acting) == 2:
        return _side_by_side(rng, acting[0], acting[1])
    fresh = _figure(rng)
    return fitted((replace(acting[0], x=fresh.x, scale=fresh.scale),))


def _eased(time: float) -> float:
    """Slow at both ends, so that a clip leaves its first and nears its last frame gently."""
    return 0.4 * time + 0.6 * time * time * (3 - 2 * time)


def _on_the_way(start: Scene, end: Scene, time: float, *, mix: float, pace: float) -> Scene:
    """The scene at `time`: the nearer place, the figure's way from one x to the other."""
    nearer = start if mix < 0.5 else end
    figures = tuple(
        _between_figures((first, last), now, mix=mix, walked=pace * time)
        for first, last, now in zip(start.figures, end.figures, nearer.figures, strict=True)
    )
    return replace(nearer, figures=figures, camera=_between(start.camera, end.camera, mix))


def _between_figures(
    ends: tuple[Figure, Figure], now: Figure, *, mix: float, walked: float
) -> Figure:
    first, last = ends
    cycles = (1 - mix) * CYCLES[first.action] + mix * CYCLES[last.action]
    return replace(
        now,
        phase=(first.phase + cycles * walked) % 1.0,
        x=(1 - mix) * first.x + mix * last.x,
        scale=(1 - mix) * first.scale + mix * last.scale,
        facing=first.facing,
    )
