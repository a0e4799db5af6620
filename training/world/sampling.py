"""Scenes and clips drawn at random."""

from dataclasses import replace

import numpy as np

from training.world.actions import CYCLES, STRIDES
from training.world.records import (
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
_COMPANIES = ("one", "twice", "two", "nobody")
_SHARES = (0.47, 0.35, 0.12, 0.06)


def sample_scene(rng: np.random.Generator) -> Scene:
    """One picture: one figure, the same figure twice (far-apart parts that must agree), two
    different figures, or nobody."""
    return _scene(rng, figures=_company(rng, str(rng.choice(_COMPANIES, p=_SHARES))))


def sample_clip(rng: np.random.Generator, num_frames: int = 16) -> Clip:
    """A clip of `num_frames` frames, half of them inside one place, half leading one figure from
    one place and action to another, clothes kept, as the neighbours of a story do."""
    if num_frames < 2:
        raise ValueError(f"num_frames: {num_frames} is not at least 2")
    if rng.random() < 0.5:
        return _clip_inside(rng, num_frames)
    return _clip_between(rng, num_frames)


def _scene(rng: np.random.Generator, *, figures: tuple[Figure, ...]) -> Scene:
    return Scene(
        place=_pick(rng, PLACES),
        time_of_day=_pick(rng, TIMES, (0.5, 0.22, 0.28)),
        layout_seed=int(rng.integers(LAYOUTS)),
        figures=figures,
        camera=_camera(rng),
    )


def _camera(rng: np.random.Generator) -> Camera:
    return Camera(pan_x=float(rng.uniform(-0.07, 0.07)), zoom=float(rng.uniform(1.0, 1.12)))


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
        x=float(rng.uniform(0.40, 0.60)),
        scale=float(rng.uniform(0.56, 0.65)),
        facing=int(rng.choice((-1, 1))),
    )


def _company(rng: np.random.Generator, kind: str) -> tuple[Figure, ...]:
    first = _figure(rng)
    if kind == "nobody":
        return ()
    if kind == "one":
        return (first,)
    second = first if kind == "twice" else _companion(rng, first)
    return _side_by_side(rng, first, second)


def _companion(rng: np.random.Generator, first: Figure) -> Figure:
    others = tuple(name for name in CHARACTERS if name != first.character)
    action = first.action if rng.random() < 0.5 else _pick(rng, ACTIONS)
    return replace(_figure(rng), character=_pick(rng, others), action=action)


def _side_by_side(rng: np.random.Generator, first: Figure, second: Figure) -> tuple[Figure, Figure]:
    scale = float(rng.uniform(0.50, 0.56))
    left = replace(first, x=float(rng.uniform(0.24, 0.28)), scale=_fitting(first, scale))
    right = replace(
        second,
        x=float(rng.uniform(0.72, 0.76)),
        scale=_fitting(second, scale),
        phase=float(rng.random()),
        facing=int(rng.choice((-1, 1))),
    )
    return (left, right)


def _fitting(figure: Figure, scale: float) -> float:
    """A sleeper lies across the picture and has half of it when there are two."""
    return 0.8 * scale if figure.action == "sleeping" else scale


def _clip_inside(rng: np.random.Generator, num_frames: int) -> Clip:
    kind = _pick(rng, ("one", "twice", "two"), (0.75, 0.15, 0.10))
    scene = _scene(rng, figures=_company(rng, kind))
    room = 1.0 if kind == "one" else 0.3
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
    start = _scene(rng, figures=_company(rng, "one"))
    end = _neighbour(rng, start)
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


def _neighbour(rng: np.random.Generator, start: Scene) -> Scene:
    """A scene elsewhere, with the same figure in the same clothes at another action."""
    figure = start.figures[0]
    actions = tuple(name for name in ACTIONS if name != figure.action)
    places = tuple(name for name in PLACES if name != start.place)
    moved = replace(_figure(rng), character=figure.character, outfit=figure.outfit)
    moved = replace(moved, action=_pick(rng, actions), facing=figure.facing)
    end = _scene(rng, figures=(moved,))
    kept = start.time_of_day if rng.random() < 0.6 else end.time_of_day
    return replace(end, place=_pick(rng, places), time_of_day=kept)


def _eased(time: float) -> float:
    """Slow at both ends, so that a clip leaves its first and nears its last frame gently."""
    return 0.4 * time + 0.6 * time * time * (3 - 2 * time)


def _on_the_way(start: Scene, end: Scene, time: float, *, mix: float, pace: float) -> Scene:
    """The scene at `time`: the nearer place, the figure's way from one x to the other."""
    nearer = start if mix < 0.5 else end
    first, last = start.figures[0], end.figures[0]
    cycles = (1 - mix) * CYCLES[first.action] + mix * CYCLES[last.action]
    figure = replace(
        nearer.figures[0],
        phase=(first.phase + cycles * pace * time) % 1.0,
        x=(1 - mix) * first.x + mix * last.x,
        scale=(1 - mix) * first.scale + mix * last.scale,
    )
    return replace(nearer, figures=(figure,), camera=_between(start.camera, end.camera, mix))
