"""The estimator as scoring uses it: loading, reading its grid, pictures of any size."""

from pathlib import Path

import numpy as np
import torch

from storyreel.stages.scoring.measures.truth import MAX_FIGURES, Seen, TruthEstimator, peaks
from storyreel.stages.scoring.records import SeenFigure

TABLES = {
    "characters": ["cat", "dog"],
    "actions": ["walking", "sleeping", "reading"],
    "places": ["park", "beach"],
    "times": ["day", "night"],
    "colours": ["red", "blue", "green"],
}


def tiny_estimator() -> TruthEstimator:
    torch.manual_seed(0)
    estimator = TruthEstimator(**TABLES, image_size=64, channels=(8, 8, 16), blocks=(1, 1, 1))
    with torch.no_grad():
        estimator.figure_head.bias[0] = 1.0  # so that it sees somebody
    return estimator.eval()


def pictures(count: int, side: int = 64) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def test_the_grid_has_one_cell_for_each_16_pixels_and_logits_for_every_table() -> None:
    evidence = tiny_estimator()(torch.zeros(2, 3, 64, 64))
    assert evidence.objectness.shape == (2, 4, 4)
    assert {name: x.shape for name, x in evidence.figures.items()} == {
        "character": (2, 2, 4, 4),
        "action": (2, 3, 4, 4),
        **dict.fromkeys(("top", "bottom", "hat"), (2, 3, 4, 4)),
    }
    assert {name: x.shape for name, x in evidence.scene.items()} == {
        "place": (2, 2),
        "time": (2, 2),
    }


def test_a_saved_estimator_sees_the_same_from_half_the_bytes(tmp_path: Path) -> None:
    estimator = tiny_estimator().half()
    estimator.save_pretrained(tmp_path / "truth_estimator")
    loaded = TruthEstimator.from_pretrained(
        tmp_path, subfolder="truth_estimator", use_safetensors=True, dtype=torch.float32
    ).eval()
    seen = loaded.look(pictures(3))
    assert any(one.figures for one in seen)
    assert seen == estimator.float().look(pictures(3))
    named = {one.place for one in seen} | {f.character for one in seen for f in one.figures}
    assert named <= {"park", "beach", "cat", "dog"}


def test_pictures_are_seen_alike_alone_and_in_a_batch() -> None:
    estimator, given = tiny_estimator(), pictures(40)
    together = estimator.look(given)
    assert len(together) == 40
    alone = estimator.look(given[37:38])[0]
    assert [f.clothes for f in alone.figures] == [f.clothes for f in together[37].figures]


def test_a_larger_picture_is_seen_as_the_small_one() -> None:
    small = np.full((1, 64, 64, 3), 40, np.uint8)
    small[:, 20:40, 30:44] = (200, 30, 30)
    large = small.repeat(2, axis=1).repeat(2, axis=2)
    ours, theirs = (tiny_estimator().look(given)[0] for given in (small, large))
    assert len(ours.figures) == len(theirs.figures)
    assert (ours.place, ours.time_of_day) == (theirs.place, theirs.time_of_day)


def test_a_figure_is_where_the_grid_is_surest_and_two_that_are_apart_are_two() -> None:
    scores = torch.full((8, 8), 0.1)
    scores[4, 2], scores[4, 3], scores[4, 6] = 0.8, 0.7, 0.9
    assert peaks(scores) == [(4, 6), (4, 2)]


def test_an_unsure_grid_holds_nobody_and_a_sure_one_not_too_many() -> None:
    assert peaks(torch.full((8, 8), 0.3)) == []
    assert len(peaks(torch.full((8, 8), 0.9))) == MAX_FIGURES


def test_asked_for_a_character_it_names_the_surest_of_that_kind() -> None:
    def figure(character: str, score: float) -> SeenFigure:
        return SeenFigure(
            score=score, x=0.5, y=0.5, character=character, action="walking",
            top="red", bottom="blue", hat="green",
        )  # fmt: skip

    seen = Seen(
        place="park",
        time_of_day="day",
        figures=(figure("dog", 0.9), figure("cat", 0.8), figure("cat", 0.7)),
    )
    found = seen.figure("cat")
    assert found is not None
    assert found.score == 0.8
    assert found.clothes == ("red", "blue", "green")
    assert seen.figure("bear") is None
