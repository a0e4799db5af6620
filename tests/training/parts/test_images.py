"""The loss of the image UNet: where it falls, and what is shown to it of twins."""

import pytest
import torch

from storyreel.training.parts.images import show_twins, weigh_figures

LEFT = [0.25, 0.5, 0, 0, 0, 0, 0]
RIGHT = [0.75, 0.5, 0, 0, 0, 0, 0]


def test_a_figure_counts_more_than_its_place_and_the_loss_keeps_its_size() -> None:
    weights = weigh_figures([[LEFT], []], (16, 16), 4.0)
    assert weights.shape == (2, 1, 16, 16)
    assert float(weights.mean()) == pytest.approx(1)
    figure, far = weights[0, 0, 8, 4], weights[0, 0, 8, 14]
    assert float(figure / far) == pytest.approx(4, rel=0.1)
    assert float(weights[1].std()) == 0


def test_a_twin_counts_as_much_as_the_figure() -> None:
    """Else the loss would not see whether the two agree."""
    (weights,) = weigh_figures([[LEFT, RIGHT]], (16, 16), 4.0)
    assert weights.flip(-1).equal(weights)


def shown(figures: list[list[list[float]]], share: float, seed: int = 0) -> torch.Tensor:
    return show_twins(figures, (16, 16), share, torch.Generator().manual_seed(seed))


TWINS = [[0.25, 0.5, 3, 1, 5, 6, 7], [0.75, 0.5, 3, 4, 5, 6, 7]]
"""One character twice, in the same clothes, at different actions."""


def test_of_twins_one_is_shown_and_the_other_never_is() -> None:
    maps = torch.cat([shown([TWINS], 1.0, seed) for seed in range(40)])[:, 0]
    left, right = maps[:, 8, 4], maps[:, 8, 12]
    assert (left ^ right).all()
    assert 5 < int(left.sum()) < 35
    halves = maps[:, :, :8].flatten(1).any(1), maps[:, :, 8:].flatten(1).any(1)
    assert not (halves[0] & halves[1]).any()


def test_only_so_large_a_share_of_the_twins_is_shown() -> None:
    maps = shown([TWINS] * 400, 0.3).flatten(1).any(1)
    assert 0.2 < float(maps.float().mean()) < 0.4


@pytest.mark.parametrize("column", [2, 4, 5, 6])
def test_figures_that_differ_say_nothing_of_each_other(column: int) -> None:
    other = list(TWINS[1])
    other[column] += 1
    assert not shown([[TWINS[0], other], [TWINS[0]], []], 1.0).any()
