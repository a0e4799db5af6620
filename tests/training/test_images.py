"""The loss of the image UNet falls on figures, which are small, and whose clothes are smaller."""

import pytest

from training.images import weigh_figures

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
