"""Frozen clips are told from moving ones, fading from moving, flicker from both."""

import numpy as np
import pytest

from storyreel.stages.motion.frames import dissolve, endpoint_jump, hold
from storyreel.stages.scoring.config import ScoringConfig
from storyreel.stages.scoring.measures.motion import (
    displacement,
    endpoint_jumps,
    flicker,
    is_static,
    join_jump,
    liveliness,
    motion_magnitude,
)
from tests.stages.scoring.conftest import scene

LEVEL = ScoringConfig().static_level
NUM_FRAMES = 12


def walking(step: int = 3, seed: int = 2) -> np.ndarray:
    """A figure that walks through a place."""
    return np.stack([scene(seed, figure=(20 + step * t, 60)) for t in range(NUM_FRAMES)])


def noisy(frames: np.ndarray, deviation: float = 4) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, deviation, frames.shape)
    return np.clip(frames + noise, 0, 255).astype(np.uint8)


def frozen() -> np.ndarray:
    return np.repeat(scene(2, figure=(20, 60))[None], NUM_FRAMES, axis=0)


def test_a_frozen_clip_is_static_and_has_no_motion() -> None:
    assert is_static(frozen(), LEVEL)
    assert motion_magnitude(frozen()) == displacement(frozen()) == flicker(frozen()) == 0


def test_noise_does_not_bring_a_frozen_clip_to_life() -> None:
    assert is_static(noisy(frozen()), LEVEL)
    assert displacement(noisy(frozen())) == 0


def test_a_frozen_clip_that_jumps_to_its_last_keyframe_is_static() -> None:
    assert is_static(hold(scene(1), scene(2), NUM_FRAMES), LEVEL)


def test_a_small_figure_that_walks_is_not_static() -> None:
    assert not is_static(walking(), LEVEL)
    assert liveliness(walking()) > 3 * LEVEL


@pytest.mark.parametrize("share", [0.85, 1.15])
def test_a_still_that_blinks_is_static(share: float) -> None:
    """However bright it blinks, and whether its keyframes do or not."""
    blinking = frozen().copy()
    blinking[2::2] = np.clip(blinking[2::2] * share, 0, 255)
    assert motion_magnitude(blinking) > LEVEL
    assert is_static(blinking, LEVEL)
    darker = frozen().copy()
    darker[1::2] -= np.minimum(darker[1::2], 8)
    assert is_static(darker, LEVEL)


@pytest.mark.parametrize("seed", range(1, 5))
def test_a_slow_fade_is_static(seed: int) -> None:
    other = scene(seed + 50)
    assert is_static(dissolve(scene(seed), other, NUM_FRAMES), LEVEL)
    assert is_static(dissolve(scene(seed), np.zeros_like(other), NUM_FRAMES), LEVEL)


def test_a_slow_walk_in_a_light_that_blinks_is_not_static() -> None:
    frames = walking(step=1)
    frames[1::2] -= np.minimum(frames[1::2], 8)
    assert not is_static(frames, LEVEL)


def test_a_frozen_clip_between_keyframes_of_its_own_is_static() -> None:
    frames = frozen()
    frames[0], frames[-1] = scene(7), scene(8)
    assert is_static(frames, LEVEL)


def test_displacement_is_the_distance_that_the_picture_pans() -> None:
    wide = scene(4, side=192)
    pan = np.stack([wide[:128, 4 * t : 4 * t + 128] for t in range(8)])
    assert displacement(pan) == pytest.approx(4 / 128, rel=0.25)


def test_fading_is_no_displacement() -> None:
    assert displacement(dissolve(scene(1), scene(2), NUM_FRAMES)) < 0.001


def test_flicker_comes_and_goes_and_walking_does_not() -> None:
    blinking = frozen().copy()
    blinking[1::2] -= np.minimum(blinking[1::2], 8)
    assert flicker(blinking) == pytest.approx(8, rel=0.1)
    assert flicker(dissolve(scene(1), scene(2), NUM_FRAMES)) < 0.2
    assert flicker(noisy(walking())) > flicker(walking())


def test_motion_grows_with_speed() -> None:
    assert motion_magnitude(walking(step=3)) > motion_magnitude(walking(step=1)) > 0


def test_a_clip_of_one_frame_or_of_one_colour_stands_still() -> None:
    grey = np.full((3, 40, 30, 3), 128, np.uint8)
    for frames in (frozen()[:1], grey, grey[:1]):
        assert is_static(frames, LEVEL)
        assert motion_magnitude(frames) == displacement(frames) == flicker(frames) == 0


def test_the_jump_at_each_end_is_seen_at_that_end() -> None:
    frames = walking()
    frames[0] = 255 - frames[0]
    start, end = endpoint_jumps(frames)
    assert start > 10 * end
    assert max(start, end) == pytest.approx(endpoint_jump(frames))


def test_a_join_of_smooth_clips_is_smooth_and_that_of_others_is_not() -> None:
    frames = walking(step=2)
    before, after = frames[:6], frames[5:]
    assert join_jump(before, after) < 1.5
    broken = after.copy()
    broken[1:] = 255 - broken[1:]
    assert join_jump(before, broken) > 5


def test_a_join_of_frozen_clips_is_a_number() -> None:
    assert join_jump(frozen(), frozen()) == 0
    assert endpoint_jumps(frozen()) == (0, 0)


def test_clips_without_an_inside_are_refused() -> None:
    with pytest.raises(ValueError, match="3 frames, must be"):
        endpoint_jumps(walking()[:3])
    with pytest.raises(ValueError, match="2 frames, must be"):
        join_jump(walking(), walking()[:2])
