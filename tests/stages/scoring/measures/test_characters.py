"""Which panels are compared for their characters, and what of them is seen."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from storyreel.stages.output.records import Panel
from storyreel.stages.scoring.measures.characters import (
    GREY,
    character_pairs,
    cut_out,
    pair_similarities,
)
from tests.stages.films.conftest import panel


def panels(*characters: tuple[str, ...]) -> list[Panel]:
    return [replace(panel("s", k, ""), characters=names) for k, names in enumerate(characters)]


def test_only_panels_that_share_a_character_are_compared() -> None:
    assert character_pairs(panels(("Zoë",), (), ("Tom",), ("Tom", "Zoë"))) == [(0, 3), (2, 3)]


def test_where_no_character_is_named_all_panels_are_compared() -> None:
    assert character_pairs(panels((), (), ())) == [(0, 1), (0, 2), (1, 2)]


def test_beats_of_one_panel_do_not_raise_the_similarity() -> None:
    beats = [replace(each, panel_index=min(k, 1)) for k, each in enumerate(panels((), (), ()))]
    assert character_pairs(beats) == [(0, 1), (0, 2)]


def test_one_panel_has_no_pair_and_no_similarity() -> None:
    assert character_pairs(panels(())) == []
    assert pair_similarities(torch.eye(1), []) == {}


def test_each_pair_gets_its_own_cosine() -> None:
    embeds = torch.tensor([[1.0, 0], [0, 2], [3, 3]])
    found = pair_similarities(embeds, [(0, 1), (0, 2)])
    assert found == {(0, 1): 0.0, (0, 2): pytest.approx(0.5**0.5)}


def test_what_is_cut_out_does_not_show_its_background() -> None:
    mask = np.zeros((4, 6), dtype=bool)
    mask[1:3, 2:4] = True
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)
    other[mask] = one[mask]
    assert np.array_equal(cut_out(one, mask), cut_out(other, mask))
    assert (cut_out(one, mask)[~mask] == GREY).all()


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"mask: \(2, 2\), must be \(4, 6\)"):
        cut_out(np.zeros((4, 6, 3), np.uint8), np.ones((2, 2), dtype=bool))
