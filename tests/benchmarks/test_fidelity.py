"""The benchmark of fidelity: its statistics, its resuming, and one tiny run of all of it."""

import dataclasses
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from benchmarks.fidelity import clips, document, keyframes, rendering, summaries, tables, targets
from benchmarks.fidelity.__main__ import parse, setup_of
from benchmarks.fidelity.experiments import EXPERIMENTS, run
from benchmarks.fidelity.grids import Line, save_grid
from benchmarks.fidelity.results import Result, Setup
from benchmarks.fidelity.statistics import (
    mean_interval,
    ratio_interval,
    share_difference_interval,
    share_interval,
)
from storyreel.stages.scoring.measures.truth import Seen
from storyreel.stages.scoring.records import SeenFigure
from storyreel.training import world
from storyreel.training.config import TruthConfig
from storyreel.training.parts.truth import build_estimator
from storyreel.training.stories import held_out_story
from tests.stages.tiny import (
    EMBEDDING_WIDTH,
    save_tiny_family,
    save_tiny_image_prompt,
    tiny_text_encoder,
)


def save_family(folder: Path) -> Path:
    """A family of random weights with all that the benchmark loads."""
    save_tiny_family(folder)
    save_tiny_image_prompt(folder, "sd15")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = {**tiny_text_encoder().config.to_dict(), "projection_dim": EMBEDDING_WIDTH}
        encoder = CLIPTextModelWithProjection(CLIPTextConfig(**config))
        encoder.save_pretrained(folder / "text_encoder")
        truth = TruthConfig(
            num_steps=1, batch_size=1, learning_rate=1, channels=(8, 8, 16), blocks=(1, 1, 1)
        )
        build_estimator(truth, 64).save_pretrained(folder / "truth_estimator")
    return folder


def setup_for(model: Path, work: Path) -> Setup:
    settings = {
        "keyframes.model.path": f'"{model}"',
        "motion.model.path": f'"{model}"',
        "keyframes.width": 32,
        "keyframes.height": 32,
        "keyframes.num_inference_steps": 2,
        "motion.num_inference_steps": 1,
        "motion.num_frames": 4,
    }
    amounts = {
        "stories": 2, "ablation": 1, "panels": 3, "twins": 2, "clips": 1, "films": 1, "true": 2,
    }  # fmt: skip
    arguments = [f"--{name}={value}" for name, value in amounts.items()]
    arguments += [f"--set={key}={value}" for key, value in settings.items()]
    return setup_of(parse([*arguments, f"--work={work}"]))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    """Everything, measured once."""
    folder = tmp_path_factory.mktemp("fidelity")
    setup = setup_for(save_family(folder / "family"), folder / "work")
    for parts in EXPERIMENTS.values():
        for part in parts(setup):
            part()
    return setup


def test_the_page_has_every_table_every_target_and_its_pictures(
    measured: Setup, tmp_path: Path
) -> None:
    page = document.write_document(measured, tmp_path).read_text()
    for heading in ("Targets", "The estimators", "The gate", "Table 1", "Ablation", "Table 2"):
        assert f"## {heading}" in page
    assert "## Films" in page
    assert f"## What is missed, and why\n\n{document.MISSES.read_text()}" in page
    assert page.index("## Targets") < page.index("## What is missed") < page.index("## The est")
    for target in ("right action", "right character and number"):
        assert page.count(f"| {target}, with it |") == 1
    methods = [one.row.name for one in keyframes.table1(measured)]
    assert methods[-1] == keyframes.BOTH, "the adapter's rows are there where there is one"
    assert "| as the world draws them |" in page, "the gate's ceiling"
    assert page.count("| true clips | - |") == 2 * len(clips.KINDS)
    for name in [*methods, keyframes.TRUE, "random, rate 0.3", "grid, rate 0.5", "decoder only"]:
        assert f"| {name} |" in page
    for switch in ("keyframes read", "keyframes not read"):
        for kind in clips.KINDS:
            assert f"motion of the predictor's clips, {kind}, {switch}" in page
    assert "nan" not in page
    for line in page.splitlines():
        if line.startswith("!["):
            with Image.open(tmp_path / line.split("(")[1].rstrip(")")) as picture:
                assert picture.width > 100


def test_the_page_tells_the_command_that_measures_the_same(measured: Setup, tmp_path: Path) -> None:
    page = document.write_document(measured, tmp_path).read_text()
    command = page.split("```\n")[1]
    assert (
        setup_of(parse([*shlex.split(command)[3:], f"--work={measured.work.parent}"])) == measured
    )


def test_nothing_is_measured_on_what_the_settings_were_chosen_on(measured: Setup) -> None:
    tuned = {held_out_story(index, num_panels=3).panels for index in range(32)}
    assert tuned.isdisjoint(story.panels for story in keyframes.stories(measured))
    assert min(keyframes.twins(measured)) >= 48


def test_a_true_clip_is_nowhere_off_itself_and_moves(measured: Setup) -> None:
    row = clips.true_clips_row(measured)
    for clip in clips.clips(measured):
        result = row.read(clip.clip_id)
        assert result["pixels"] == result["perceptual"] == 0
        assert result["motion"] == result["true_motion"] > 0


def test_what_was_measured_is_not_measured_again(measured: Setup) -> None:
    files = {path: path.stat().st_mtime_ns for path in measured.work.rglob("*") if path.is_file()}
    assert files
    for parts in EXPERIMENTS.values():
        for part in parts(measured):
            part()
    assert {p: p.stat().st_mtime_ns for p in measured.work.rglob("*") if p.is_file()} == files


def test_parts_run_in_processes_of_their_own(measured: Setup, tmp_path: Path) -> None:
    setup = setup_for(Path(measured.config.keyframes.model.path), tmp_path)
    run(setup, ["estimator"], 1)
    row = keyframes.estimator_row(setup)
    for index in range(setup.num_true):
        unit = keyframes.true_unit(index)
        assert row.read(unit) == keyframes.estimator_row(measured).read(unit)


def test_a_stopped_run_leaves_its_table_out_of_the_page(measured: Setup, tmp_path: Path) -> None:
    more = setup_for(Path(measured.config.keyframes.model.path), tmp_path)
    page = document.write_document(more, tmp_path).read_text()
    assert "## Table 1" not in page
    assert "| films | - | not measured yet | **no** |" in page
    assert "![" not in page


def test_other_weights_have_results_of_their_own(measured: Setup, tmp_path: Path) -> None:
    family = save_family(tmp_path / "family")
    work = measured.work.parent
    assert setup_for(family, work).work == measured.work, "the same weights elsewhere are the same"
    weights = family / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert setup_for(family, work).work != measured.work


def test_methods_start_from_the_same_noise_and_differ(measured: Setup) -> None:
    plain, window, *_ = keyframes.table1(measured)
    story = keyframes.stories(measured)[0]
    unit = keyframes.unit_of(story)
    ours, theirs = (
        rendering.pictures_of(one.row, unit, len(story.panels)) for one in (plain, window)
    )
    assert any((a != b).any() for a, b in zip(ours, theirs, strict=True))
    again = rendering.StoryRenderer(plain)(unit, story.panels)
    assert all((a == b).all() for a, b in zip(ours, again, strict=True))


def figure(character: str, clothes: tuple[str, str, str], action: str = "walking") -> SeenFigure:
    top, bottom, hat = clothes
    return SeenFigure(
        score=0.9, x=0.5, y=0.5, character=character, action=action, top=top, bottom=bottom, hat=hat
    )


def test_a_panel_is_right_only_with_its_own_characters_at_their_action() -> None:
    panel = held_out_story(0, num_panels=2).panels[0]
    true = panel.scene.figures[0]
    clothes = ("red", "red", "red")
    right = figure(true.character, clothes, true.action)
    other = figure("robot" if true.character != "robot" else "cat", clothes, true.action)

    def result(*figures: SeenFigure) -> Result:
        seen = Seen(place=panel.scene.place, time_of_day=panel.scene.time_of_day, figures=figures)
        return keyframes.panel_result(seen, panel)

    assert result(right)["character"]
    assert result(right)["action"]
    assert result(right)["clothes"] == {true.character: list(clothes)}
    assert not result(right, other)["character"], "somebody else is in the picture"

    def cast(*figures: SeenFigure) -> list[float]:
        return list(summaries.STORY_MEASURES["cast"]({"panels": [result(*figures)]}))

    assert cast(right) == [True]
    assert cast(right, right) == cast(right, other) == cast() == [False]
    assert result(right, right)["character"], "two of them are of the right kind"
    nobody = result()
    assert not (nobody["character"] or nobody["action"] or nobody["number"])
    assert nobody["clothes"] == {true.character: None}


def test_clothes_agree_only_if_all_three_do_and_both_figures_are_found() -> None:
    def panel(cat: list[str] | None) -> Result:
        return {"clothes": {"cat": cat}}

    same, other = ["red", "blue", "green"], ["red", "blue", "black"]
    story = {"story": "a", "panels": [panel(same), panel(same), panel(other), panel(None)]}
    clothes = summaries.STORY_MEASURES["clothes"](story)
    assert clothes == [True, False, False, False, False, False]
    assert sum(summaries.STORY_MEASURES["top"](story)) == 3
    elsewhere = {**story, "story": "b", "panels": [panel(other), panel(None)]}
    assert summaries.chance([story, elsewhere]) == pytest.approx(1 / 8)


def test_twins_agree_only_if_exactly_two_were_found() -> None:
    panel = held_out_story(0, num_panels=2).panels[0]
    name = panel.scene.figures[0].character

    def agree(*clothes: tuple[str, str, str]) -> list[bool]:
        figures = tuple(figure(name, one) for one in clothes)
        seen = Seen(place="park", time_of_day="day", figures=figures)
        result: list[bool] = keyframes.twins_result(seen, panel)["agree"]
        return result

    assert agree(("red", "red", "blue"), ("red", "red", "blue")) == [True, True, True]
    assert agree(("red", "red", "blue"), ("red", "red", "red")) == [True, True, False]
    assert agree(("red", "red", "blue")) == [False] * 3
    assert agree(*[("red", "red", "blue")] * 3) == [False] * 3, "three are not twins"
    assert agree() == [False] * 3


def test_the_square_around_a_figure_holds_its_body_and_stays_in_the_picture() -> None:
    for index in range(20):
        scene = held_out_story(index, num_panels=2).panels[0].scene
        body = np.repeat(world.mask(scene)[..., None], 3, axis=2).astype(np.uint8)
        for one in world.figures_of(scene):
            seen = figure(one.character, ("red", "red", "red"))
            square = keyframes.around(body, dataclasses.replace(seen, x=one.x, y=one.y))
            assert square.shape == (45, 45, 3)
            assert square.mean() > 0.4
    corner = dataclasses.replace(figure("cat", ("red", "red", "red")), x=1.0, y=0.0)
    assert (keyframes.around(body, corner) == body[:45, -45:]).all()


def results_of(*values: float) -> list[Result]:
    return [dict.fromkeys(tables.CLIP_HEADINGS, value) for value in values]


@pytest.mark.parametrize(("behind", "reached"), [((0.9, 1.2), False), ((0.2, 0.2), True)])
def test_the_predictor_wins_only_if_it_surely_does(
    behind: tuple[float, float], reached: bool
) -> None:
    """Smaller in the mean is not enough; larger is no win where smaller is better."""
    theirs = {"one": results_of(*[1.1] * 6), "another": results_of(*[5.0] * 6)}
    found = list(targets.compare("inside", results_of(*behind * 3), theirs))
    wins = {one.what.split("'s ")[1].split(",")[0]: one.reached for one in found}
    assert wins["pixel distance"] is wins["perceptual distance"] is reached
    assert not wins["CLIPSIM first"]
    assert all("minus that of one" in one.measured for one in found[:2])


@pytest.mark.parametrize("num_groups", [8, 16])
def test_the_interval_of_a_mean_of_few_stories_holds_the_truth(num_groups: int) -> None:
    rng, names = np.random.default_rng(3), [str(i) for i in range(num_groups)]
    held = 0
    for _ in range(400):
        estimate = mean_interval(rng.normal(1, 1, num_groups).tolist(), names)
        assert estimate.low is not None
        assert estimate.high is not None
        held += estimate.low <= 1 <= estimate.high
    assert 0.92 <= held / 400 <= 0.98


@pytest.mark.parametrize("num_groups", [8, 16])
@pytest.mark.parametrize("share", [0.03, 0.3, 0.9])
def test_the_interval_of_a_share_in_few_stories_holds_the_truth(
    num_groups: int, share: float
) -> None:
    """Six panels of a story, half as alike as if they were one."""
    rng = np.random.default_rng(4)
    names = [str(i) for i in range(num_groups) for _ in range(6)]
    held = 0
    for _ in range(300):
        of_story = rng.beta(share, 1 - share, num_groups)
        hits = rng.random((num_groups, 6)) < of_story[:, None]
        estimate = share_interval(hits.ravel().tolist(), names)
        assert estimate.low is not None
        assert estimate.high is not None
        assert 0 <= estimate.low <= estimate.mean <= estimate.high <= 1
        held += estimate.low <= share <= estimate.high
    assert held / 300 >= 0.88


def test_a_share_of_all_or_none_is_not_certain() -> None:
    names = [str(i // 15) for i in range(240)]
    none, every = share_interval([0.0] * 240, names), share_interval([1.0] * 240, names)
    assert (none.mean, none.low) == (0, 0)
    assert none.high == pytest.approx(0.22, abs=0.02), "sixteen stories, not 240 pairs"
    assert (every.mean, every.high) == (1, 1)
    same = share_difference_interval([0.0] * 240, names)
    assert (same.low, same.mean, same.high) == (-none.high, 0, none.high)
    assert share_interval([1.0] * 6, ["only"] * 6).low is None


def test_a_ratio_is_of_means_and_its_interval_holds_the_truth() -> None:
    rng = np.random.default_rng(0)
    below = rng.uniform(1, 3, 200)
    above = 0.6 * below + rng.normal(0, 0.1, 200)
    ratio = ratio_interval(above.tolist(), below.tolist(), [str(i) for i in range(200)])
    assert ratio.mean == pytest.approx(above.mean() / below.mean())
    assert ratio.low is not None
    assert ratio.high is not None
    assert ratio.low < 0.6 < ratio.high
    assert ratio.high - ratio.low < 0.03


def test_values_of_one_story_count_as_one_witness() -> None:
    rng = np.random.default_rng(1)
    above, below = rng.uniform(0, 2, 8).repeat(20).tolist(), [1.0] * 160
    alone = ratio_interval(above, below, [str(i) for i in range(160)])
    grouped = ratio_interval(above, below, [str(i // 20) for i in range(160)])
    assert grouped.mean == alone.mean
    assert _width(grouped) > 2 * _width(alone)


def _width(estimate: summaries.MeanEstimate) -> float:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.high - estimate.low


def test_a_difference_of_the_same_noise_is_surer_than_two_means() -> None:
    rng = np.random.default_rng(2)
    luck = rng.uniform(0, 1, 60)
    ours = [{"pixels": float(x)} for x in luck]
    theirs = [{"pixels": float(x + 0.05)} for x in luck + rng.normal(0, 0.01, 60)]
    difference = summaries.clip_difference(ours, theirs, "pixels")
    assert difference.high is not None
    assert difference.high < 0, "the paired difference tells what the means cannot"
    assert _width(difference) < 0.1 * _width(summaries.clip_estimate(ours, "pixels"))


def test_ratios_of_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="must be the same"):
        ratio_interval([1.0], [1.0, 2.0], ["a"])


def test_a_grid_shows_its_pictures_where_they_belong(tmp_path: Path) -> None:
    red, blue = (np.full((8, 8, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 0, 255)))
    lines = [Line(label="first", pictures=[red, blue]), Line(label="a heading", pictures=())]
    save_grid(tmp_path / "grid.png", [*lines, Line(label="last", pictures=[blue])], side=40)
    with Image.open(tmp_path / "grid.png") as image:
        grid = np.asarray(image.convert("RGB"))
    assert grid[20, 108 + 20].tolist() == [255, 0, 0]
    assert grid[20, 108 + 43 + 20].tolist() == [0, 0, 255]
    assert grid[-20, 108 + 20].tolist() == [0, 0, 255]
