"""Copied panels are found, panels of one style or one place are not."""

import numpy as np
import pytest

from storyreel.stages.scoring.config import ScoringConfig
from storyreel.stages.scoring.measures.copies import copied_share
from storyreel.stages.scoring.measures.tiles import reduced
from tests.stages.scoring.conftest import scene

LIMIT = ScoringConfig().copy_share
SEEDS = range(8)


def share(first: np.ndarray, second: np.ndarray) -> float:
    return copied_share(reduced(first), reduced(second))


def test_an_identical_panel_is_copied_whole() -> None:
    picture = scene(1, figure=(50, 60))
    assert share(picture, picture) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_a_shift_of_a_few_pixels_hides_no_copy(seed: int) -> None:
    wide = scene(seed, side=144, figure=(50, 60))
    assert share(wide[5:133, 3:131], wide[2:130, 9:137]) >= LIMIT


@pytest.mark.parametrize("seed", SEEDS)
def test_light_noise_hides_no_copy(seed: int) -> None:
    picture = scene(seed, figure=(50, 60))
    noise = np.random.default_rng(seed).normal(0, 10, picture.shape)
    assert share(picture, np.clip(picture + noise, 0, 255).astype(np.uint8)) >= LIMIT


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_figure_pasted_elsewhere_on_a_copied_background_is_a_copy(seed: int) -> None:
    assert share(scene(seed, figure=(50, 60)), scene(seed, figure=(62, 56))) >= LIMIT


@pytest.mark.parametrize("seed", SEEDS)
def test_a_mirror_image_is_a_copy(seed: int) -> None:
    picture, other = scene(seed, figure=(50, 60)), scene(seed, figure=(40, 62))[:, ::-1]
    assert share(picture, other) == share(other, picture) >= LIMIT


@pytest.mark.parametrize("seed", SEEDS)
def test_another_place_is_no_copy_though_the_figure_is_the_same(seed: int) -> None:
    assert share(scene(seed, figure=(50, 60)), scene(seed + 100, figure=(50, 60))) < LIMIT / 2


def test_a_thing_alone_on_a_wall_is_no_copy_of_a_rich_picture_that_shows_it_too() -> None:
    """All of the poor picture is found in the rich one, but not the other way round."""
    poor = np.full((128, 128, 3), 90, np.uint8)
    poor[40:88, 90:120] = scene(3)[40:88, 90:120]
    rich = poor.copy()
    rich[:, :70] = scene(3)[:, :70]
    assert share(rich, poor) == share(poor, rich) < LIMIT


def test_blank_panels_are_copies_of_their_like_only() -> None:
    black, white = np.zeros((32, 48, 3), np.uint8), np.full((32, 48, 3), 255, np.uint8)
    assert share(black, black) == 1
    assert share(black, white) == 0
    assert share(black, scene(0)) < LIMIT


def test_a_recoloured_picture_is_no_copy() -> None:
    picture = scene(5)
    assert share(picture, 255 - picture) < LIMIT / 2
