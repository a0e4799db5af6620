"""`storyreel evaluate` on a real job: scored once, scored again when something changed."""

import json
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from storyreel.flows.commands.cli import app
from storyreel.flows.job.config import load_config
from storyreel.flows.job.job import open_job, read_job
from storyreel.flows.job.retention import remove_finished_intermediates
from storyreel.stages.output.manifests import read_manifest, read_manifests, write_manifest
from storyreel.stages.output.records import Clip, Film, Panel
from storyreel.stages.output.storage import Output
from storyreel.stages.scoring.records import FilmScore, JobScore, PanelScore, ShotScore
from tests.flows.inline import InlineRunner, lay_out, render_inline
from tests.stages.tiny import save_tiny_clip

PARTS = ("text_encoder", "tokenizer", "image_encoder", "feature_extractor")


# The commands of this file find the Ray of this process and leave it up.
pytestmark = pytest.mark.usefixtures("local_ray")


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def undisturbed(stories: Path, tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job that the tiny models rendered; tests work on copies."""
    folder = tmp_path_factory.mktemp("evaluate") / "job"
    config, output = load_config(str(tiny_config)), Output(str(folder))
    job = open_job(output, str(stories), config)
    runner = InlineRunner(job)
    for shard in job.shards:
        runner.render(shard)
    return folder


@pytest.fixture
def job(undisturbed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(undisturbed, tmp_path / "job"))


def run(job: Path, clip: Path, *options: str) -> Result:
    settings = [f"scoring.model.path={clip}", *(f'scoring.{part}.subfolder=""' for part in PARTS)]
    arguments = [word for setting in settings for word in ("--set", setting)]
    return CliRunner().invoke(app, ["evaluate", str(job), *arguments, *options])


def evaluate(job: Path, clip: Path, *options: str) -> dict[str, Any]:
    result = run(job, clip, "--json", *options)
    assert result.exception is None, result.exception
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def scores(job: Path) -> dict[str, tuple[int, bytes]]:
    """When each file of the scores was written, and what it holds."""
    files = [path for path in job.glob("manifests/scores*/*") if path.is_file()]
    return {
        path.name + path.parent.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in files
    }


def test_every_panel_clip_and_film_is_scored_and_the_means_are_theirs(
    job: Path, clip: Path
) -> None:
    found = evaluate(job, clip)
    output = Output(str(job))
    panels = list(read_manifests(output, "scores_panels", PanelScore))
    clips = list(read_manifests(output, "scores_clips", ShotScore))
    films = list(read_manifests(output, "scores_films", FilmScore))
    rendered = [(p.story_id, p.keyframe_index) for p in read_manifests(output, "panels", Panel)]
    assert [(p.story_id, p.keyframe_index) for p in panels] == rendered
    assert len(clips) == len(list(read_manifests(output, "clips", Clip)))
    assert len(films) == len(list(read_manifests(output, "films", Film))) == 3
    mean = found["means"]["scores_panels"]["text_similarity"]
    assert mean["mean"] == pytest.approx(np.mean([p.text_similarity for p in panels]))
    assert mean["low"] <= mean["mean"] <= mean["high"]
    assert (mean["count"], mean["num_groups"]) == (len(panels), 3)
    assert (found["num_stories"], found["unfinished"]) == (3, [])
    (of_job,) = (
        score
        for score in read_manifests(output, "scores_job", JobScore)
        if (score.of, score.figure) == ("panels", "text_similarity")
    )
    assert (of_job.mean, of_job.count, of_job.num_stories) == (mean["mean"], len(panels), 3)


@pytest.mark.slow
def test_the_table_names_every_figure_and_is_not_mixed_into_json(job: Path, clip: Path) -> None:
    shown = run(job, clip).stdout
    for record in (PanelScore, ShotScore, FilmScore):
        for field in fields(record)[3:]:
            assert (field.name in shown) == (not field.name.startswith("seen_"))
    assert "3 stories scored" in shown
    assert "nan" not in shown.casefold()


def test_a_scored_job_is_not_scored_again(job: Path, clip: Path) -> None:
    first = evaluate(job, clip)
    before = scores(job)
    assert evaluate(job, clip) == first
    assert scores(job) == before


def test_only_the_shard_that_lost_its_seal_is_scored_again(job: Path, clip: Path) -> None:
    first = evaluate(job, clip)
    before = scores(job)
    lost, kept = sorted((job / "manifests/scores").glob("*.json"))
    lost.unlink()
    assert evaluate(job, clip) == first
    after = scores(job)
    assert {key: content for key, (_, content) in after.items()} == {
        key: content for key, (_, content) in before.items()
    }
    changed = {key for key in after if after[key] != before[key]}
    assert changed == {key for key in after if key.startswith(lost.stem)}
    assert kept.exists()


@pytest.mark.slow
def test_another_setting_or_another_clip_scores_all_again(
    job: Path, clip: Path, tmp_path: Path
) -> None:
    first = evaluate(job, clip)["means"]
    strict = evaluate(job, clip, "--set", "scoring.static_level=255")["means"]
    assert strict["scores_films"]["static_rate"]["mean"] == 1
    assert strict["scores_panels"]["text_similarity"] == first["scores_panels"]["text_similarity"]
    other = evaluate(job, save_tiny_clip(tmp_path / "other", seed=5))["means"]
    assert other["scores_panels"]["text_similarity"] != first["scores_panels"]["text_similarity"]


@pytest.mark.slow
def test_a_larger_batch_does_not_score_again(job: Path, clip: Path) -> None:
    evaluate(job, clip)
    before = scores(job)
    evaluate(job, clip, "--set", "scoring.batch_size=3")
    assert scores(job) == before


@pytest.mark.slow
def test_changed_prompts_score_their_shard_again(job: Path, clip: Path) -> None:
    first = evaluate(job, clip)["means"]["scores_panels"]["text_similarity"]["mean"]
    output = Output(str(job))
    for path in sorted((job / "manifests/panels").glob("*.parquet")):
        relative = str(path.relative_to(job))
        swapped = [
            Panel(**{f.name: getattr(p, f.name) for f in fields(p)} | {"prompt": "something else"})
            for p in read_manifest(output, relative, Panel)
        ]
        write_manifest(output, relative, Panel, swapped, fingerprint="")
    assert evaluate(job, clip)["means"]["scores_panels"]["text_similarity"]["mean"] != first


def test_what_is_finished_is_scored_and_what_is_missing_is_said(job: Path, clip: Path) -> None:
    shard = read_job(Output(str(job))).shards[-1]
    (job / f"manifests/failures/{shard}.parquet").unlink()
    found = evaluate(job, clip)
    assert found["unfinished"] == [str(shard)]
    assert found["num_stories"] == 2
    assert "1 shards are not rendered yet" in run(job, clip).stdout


def test_keyframes_are_compared_with_a_reference(job: Path, clip: Path, tmp_path: Path) -> None:
    same = evaluate(job, clip, "--reference", str(job / "keyframes"))["frechet"]
    due = len(list(read_manifests(Output(str(job)), "panels", Panel)))
    assert same["num_keyframes"] == same["num_references"] == due
    assert same["distance"] == pytest.approx(0, abs=1e-4)
    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{seed}.JPG", format="JPEG")
    other = evaluate(job, clip, "--reference", str(tmp_path))["frechet"]
    assert other["distance"] > 10 * same["distance"] + 1e-3
    *_, last = read_manifests(Output(str(job)), "scores_job", JobScore)
    assert (last.figure, last.mean) == ("frechet_distance", other["distance"])


def test_a_reference_needs_keyframes_that_are_still_there(clip: Path, tmp_path: Path) -> None:
    output = Output(str(tmp_path / "job"))
    lay_out(output, tmp_path, 2)
    remove_finished_intermediates(render_inline(output))
    error = run(tmp_path / "job", clip, "--reference", str(tmp_path)).exception
    assert isinstance(error, ValueError)
    assert "there is no keyframe" in str(error)


def test_the_estimator_of_the_truth_says_what_every_keyframe_shows(job: Path, clip: Path) -> None:
    settings = ("path=models/pocket", "subfolder=truth_estimator")
    options = [word for s in settings for word in ("--set", f"scoring.truth_estimator.{s}")]
    means = evaluate(job, clip, *options)["means"]
    panels = list(read_manifests(Output(str(job)), "scores_panels", PanelScore))
    assert {panel.seen_time for panel in panels} <= {"day", "sunset", "night"}
    assert all(panel.seen_figures is not None for panel in panels)
    assert 0 <= means["scores_films"]["same_clothes"]["mean"] <= 1


def test_bad_input_is_named(job: Path, clip: Path, stories: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no job" in str(run(empty, clip).exception)
    assert "holds no picture" in str(run(job, clip, "--reference", str(empty)).exception)
    (empty / "broken.png").write_bytes(b"no picture")
    error = run(job, clip, "--reference", str(empty)).exception
    assert isinstance(error, ValueError)
    assert "broken.png" in str(error)
    open_job(Output(str(tmp_path / "new")), str(stories), load_config("pocket"))
    assert "no shard is finished yet" in str(run(tmp_path / "new", clip).exception)
