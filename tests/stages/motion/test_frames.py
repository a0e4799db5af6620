"""Clips as pixels."""

import numpy as np
import pytest

from storyreel.stages.motion.frames import (
    endpoint_closeness,
    endpoint_jump,
    to_image,
    to_pixels,
)


def ramp(levels: list[float]) -> np.ndarray:
    return np.stack([np.full((4, 4, 3), level, dtype=np.uint8) for level in levels])


def test_every_grey_level_survives_the_way_to_the_model_and_back() -> None:
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    assert np.array_equal(to_pixels(to_image(levels)[None])[0], levels)


def test_an_even_clip_does_not_jump_at_its_ends() -> None:
    assert endpoint_jump(ramp([0, 10, 20, 30, 40])) == pytest.approx(1)


@pytest.mark.parametrize("levels", [[0, 60, 70, 80, 90], [0, 10, 20, 30, 90]])
def test_a_jump_at_either_end_is_measured_in_steps_of_the_clip(levels: list[float]) -> None:
    assert endpoint_jump(ramp(levels)) == pytest.approx(6)


def test_a_clip_that_stands_still_has_no_jump_and_one_between_keyframes_a_large_one() -> None:
    assert endpoint_jump(ramp([5, 5, 5, 5])) == 0
    assert 1000 < endpoint_jump(ramp([0, 50, 50, 100])) < float("inf")


def test_ends_are_judged_before_the_keyframes_are_put_there() -> None:
    generated = ramp([10, 20, 30, 40, 50])
    first, last = ramp([11, 45])
    assert endpoint_closeness(generated, first, last) == 5
    assert endpoint_closeness(np.stack([first, *generated[1:-1], last]), first, last) == 0
