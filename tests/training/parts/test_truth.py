"""The training of the estimators, and how their answers are judged."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from storyreel.stages.scoring.measures.truth import Seen, TruthEstimator
from storyreel.stages.scoring.records import SeenFigure
from storyreel.training import world
from storyreel.training.config import TrainingConfig, TruthConfig, VaeConfig
from storyreel.training.data import FIGURE, Pictures, open_images
from storyreel.training.parts.truth import (
    Truth,
    bumps,
    export_truth,
    held_out_shares,
    judge_picture,
    reconstruct,
    spoil,
    train_truth,
    truth_of,
    turn_over,
)
from storyreel.training.parts.vae import build_vae

STAGE = {"num_steps": 1, "batch_size": 2, "learning_rate": 1e-3}


def config(truth: TruthConfig) -> TrainingConfig:
    return TrainingConfig.model_validate(
        {
            "num_threads": 1,
            "world": {
                "num_images": 14,
                "num_clips": 1,
                "image_size": 64,
                "num_held_out": 2,
                "num_workers": 1,
            },
            "clip": STAGE,
            "vae": {**STAGE, "decoder": STAGE},
            "images": STAGE,
            "predictor": STAGE,
            "motion": STAGE,
            "truth": truth.model_dump(),
        }
    )


def vae() -> object:
    torch.manual_seed(0)
    stage = VaeConfig.model_validate({**STAGE, "decoder": STAGE, "block_out_channels": [8, 8]})
    return build_vae(stage, image_size=64).eval()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[TruthEstimator, Pictures]:
    """An estimator that was shown the same few pictures over and over."""
    truth = TruthConfig(
        num_steps=220,
        batch_size=12,
        learning_rate=4e-3,
        warmup_steps=5,
        ema_decay=0.9,
        num_reconstructed=4,
        reconstructed_share=0.1,
        channels=(16, 24, 48),
        blocks=(1, 1, 1),
    )
    work, whole = tmp_path_factory.mktemp("work"), config(truth)
    torch.manual_seed(0)
    pictures = open_images(work, whole.world, seed=3)
    return train_truth(whole, vae(), pictures, work), pictures


def test_it_finds_the_figures_that_it_was_shown(trained: tuple[TruthEstimator, Pictures]) -> None:
    estimator, pictures = trained
    right: list[bool] = []
    for index, seen in enumerate(estimator.look(pictures.pixels[: pictures.num_training])):
        scene = world.sample_scene(np.random.default_rng((3, index)))
        answers = judge_picture(seen, scene)
        right += answers["character"] + answers["action"] + answers["top"] + answers["place"]
    assert len(right) > 40
    assert np.mean(right) > 0.85


def test_it_is_shipped_small_and_sees_the_same(
    trained: tuple[TruthEstimator, Pictures], tmp_path: Path
) -> None:
    estimator, pictures = trained
    folder = export_truth(estimator, tmp_path)
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}
    shipped = TruthEstimator.from_pretrained(
        tmp_path, subfolder="truth_estimator", dtype=torch.float32
    ).eval()
    before, after = (one.look(pictures.pixels) for one in (estimator, shipped))
    assert [one.place for one in before] == [one.place for one in after]
    assert [len(one.figures) for one in before] == [len(one.figures) for one in after]
    assert next(estimator.parameters()).dtype == torch.float32, "shipping changes nothing here"


def test_the_cache_tells_of_everybody_in_a_picture(
    trained: tuple[TruthEstimator, Pictures],
) -> None:
    _, pictures = trained
    truth = truth_of(pictures)
    for index in range(len(pictures.pixels)):
        scene = world.sample_scene(np.random.default_rng((3, index)))
        there = world.figures_of(scene)
        assert int((truth.figures[index, :, 2] >= 0).sum()) == len(there)
        for row, one in zip(pictures.figures[index], there, strict=True):
            named = dict(zip(FIGURE, row, strict=True))
            assert world.CHARACTERS[int(named["character"])] == one.character
            assert tuple(world.PALETTE)[int(named["hat"])] == one.outfit.hat


def test_a_mirrored_picture_has_its_figures_on_the_other_side() -> None:
    figures = torch.tensor([[[0.25, 0.5, 0, 0, 1, 2, 3], [-1.0] * 7]] * 2)
    truth = Truth(figures=figures, place=torch.zeros(2), time=torch.zeros(2))
    images = torch.zeros(2, 3, 8, 8)
    images[..., 2] = 1
    turned, told = turn_over(images, truth, torch.tensor([True, False]))
    assert turned[0, 0, 0].tolist() == [0, 0, 0, 0, 0, 1, 0, 0]
    assert turned[1, 0, 0].tolist() == [0, 0, 1, 0, 0, 0, 0, 0]
    heights = bumps(told.figures, 8)
    assert [int(heights[i, 0].max(dim=0).values.argmax()) for i in range(2)] in ([5, 1], [6, 2])
    assert not heights[:, 1].any(), "nobody must not leave a bump"


def test_spoiled_pictures_stay_pictures_and_differ_from_one_another() -> None:
    images = torch.full((4, 3, 16, 16), 0.9)
    spoiled = spoil(images, torch.Generator().manual_seed(0))
    assert spoiled.shape == images.shape
    assert spoiled.abs().max() <= 1
    assert len({round(float(one.mean()), 4) for one in spoiled}) == 4


def test_reconstructions_are_what_the_autoencoder_gives_back() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    model = vae()
    again = reconstruct(model, pixels, batch_size=2)
    assert again.shape == pixels.shape
    assert again.dtype == np.uint8
    np.testing.assert_array_equal(again[2:], reconstruct(model, pixels[2:]))


def scene_of_one() -> world.Scene:
    rng = np.random.default_rng(11)
    while True:
        scene = world.sample_scene(rng)
        if len(world.figures_of(scene)) == 1:
            return scene


def as_seen(scene: world.Scene) -> Seen:
    return Seen(
        place=scene.place,
        time_of_day=scene.time_of_day,
        figures=tuple(
            SeenFigure(
                score=0.9, x=one.x, y=one.y, character=one.character, action=one.action,
                top=one.outfit.top, bottom=one.outfit.bottom, hat=one.outfit.hat,
            )
            for one in world.figures_of(scene)
        ),
    )  # fmt: skip


def test_a_perfect_answer_is_right_in_everything() -> None:
    scene = scene_of_one()
    assert all(all(answers) for answers in judge_picture(as_seen(scene), scene).values())


def test_who_is_not_found_is_wrong_in_everything_but_the_scene() -> None:
    scene = scene_of_one()
    right = judge_picture(replace(as_seen(scene), figures=()), scene)
    for name in ("character", "action", "top", "bottom", "hat"):
        assert right[name] == [False]
    assert right["place"] == right["time"] == right["nobody_else"] == [True]


def test_a_figure_at_another_place_is_not_the_one_that_is_there() -> None:
    scene = scene_of_one()
    seen = as_seen(scene)
    moved = replace(seen, figures=(replace(seen.figures[0], x=seen.figures[0].x + 0.3),))
    right = judge_picture(moved, scene)
    assert right["character"] == right["nobody_else"] == [False]


def test_a_second_figure_that_is_not_there_is_told() -> None:
    scene = scene_of_one()
    seen = as_seen(scene)
    right = judge_picture(replace(seen, figures=seen.figures * 2), scene)
    assert right["nobody_else"] == [False]
    assert right["character"] == [True]


def test_one_wrong_colour_is_one_wrong_answer() -> None:
    scene = scene_of_one()
    seen = as_seen(scene)
    other = next(name for name in world.PALETTE if name != seen.figures[0].hat)
    right = judge_picture(replace(seen, figures=(replace(seen.figures[0], hat=other),)), scene)
    assert right["hat"] == [False]
    assert right["top"] == right["bottom"] == [True]


def test_the_bundled_estimator_is_right_on_true_pictures() -> None:
    """All that is measured of pictures of the world rests on it."""
    estimator = TruthEstimator.from_pretrained("models/pocket/truth_estimator").float().eval()
    shares = held_out_shares(estimator, 120, 256)
    assert min(shares.values()) >= 0.98, shares
