"""Laying a job out: the input is read twice, and what a job is does not depend on its place."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from storyreel.flows.job import job as job_module
from storyreel.flows.job.config import load_config
from storyreel.flows.job.description import JOB
from storyreel.flows.job.job import open_job, read_config, read_laid_out_job
from storyreel.flows.job.layout import write_stories
from storyreel.flows.job.lock import LOCK
from storyreel.stages.errors import LockedError
from storyreel.stages.output.manifests import read_manifests
from storyreel.stages.output.records import Story
from storyreel.stages.output.storage import Output

CONFIG = load_config("pocket", overrides=["execution.shard_size=2"])


def write(folder: Path, rows: list[Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "stories.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def rows(count: int, text: str = "A fox.") -> list[dict[str, str]]:
    return [{"story_id": f"s{i}", "text": text} for i in range(count)]


class ReplacedMeanwhile(Output):
    """An output whose lock is taken, to lay its job out, while somebody changes the input."""

    def __init__(self, url: str, change: Callable[[], object]) -> None:
        super().__init__(url)
        self._change = change

    def publish_new(self, path: str, content: bytes) -> bool:
        published = super().publish_new(path, content)
        if path.startswith(LOCK):
            self._change()
        return published


@pytest.mark.parametrize("sample_size", [0, 2])
@pytest.mark.parametrize(
    "later", [rows(3), rows(9), rows(5, "A cat."), [*rows(5), {"story_id": "bad"}]]
)
def test_an_input_that_changes_while_it_is_read_is_refused_and_nothing_is_laid_out(
    later: list[Any], sample_size: int, tmp_path: Path
) -> None:
    stories = write(tmp_path, rows(5))
    output = ReplacedMeanwhile(str(tmp_path / "job"), lambda: write(tmp_path, later))
    with pytest.raises(ValueError, match=r"stories\.jsonl: changed while it was read: 5 stories"):
        open_job(output, str(stories), CONFIG, sample_size=sample_size)
    assert output.names("manifests/stories") == output.names("manifests/failures") == []

    write(tmp_path, rows(5))
    again = Output(output.url)
    job = open_job(again, str(stories), CONFIG, sample_size=sample_size)
    laid_out = [story.story_id for story in read_manifests(again, "stories", Story)]
    assert sorted(laid_out) == [f"s{i}" for i in range(5)]
    assert job.num_shards == len(again.names("manifests/stories"))


def test_the_hash_of_an_input_is_that_of_version_0_1(tmp_path: Path) -> None:
    """Otherwise nobody could continue a job that version 0.1 has laid out."""
    panels = [
        "[Zoe] runs # At last",
        {"text": "Zoe\\# 5", "caption": "c", "shot": "cut", "beats": 2},
    ]
    stories = [
        {"story_id": "fox", "text": "[NC] A lake. A fox ran."},
        {
            "story_id": "zoe",
            "panels": panels,
            "characters": [{"name": "Zoe", "description": "a girl"}],
            "seed": 7,
        },
        {"story_id": "owl", "panels": ["[Owl] reads"]},
    ]
    output = Output(str(tmp_path / "job"))
    open_job(output, str(write(tmp_path, stories)), CONFIG)
    assert json.loads(output.read(JOB))["input_sha256"] == (
        "5b9f293b65091e52a90a003c4292ef598cb92f3f63b964649c6ba292f67e434b"
    )


def test_the_same_input_in_another_folder_is_the_same_job_also_with_bad_rows(
    tmp_path: Path,
) -> None:
    faceless = {"name": "Nobody", "reference_image": "nobody.png"}
    bad = [
        {"story_id": "empty"},
        {"story_id": "ghost", "text": "Boo.", "characters": [faceless]},
    ]
    output = Output(str(tmp_path / "job"))
    first, second = (write(tmp_path / place, [*rows(2), *bad]) for place in ("here", "there"))
    job = open_job(output, str(first), CONFIG)
    assert job.num_rejected == 2
    assert open_job(output, str(second), CONFIG) == job


def test_nothing_of_a_job_that_is_thrown_away_is_left_and_nothing_else_goes(
    tmp_path: Path,
) -> None:
    stories = write(tmp_path, rows(3))
    output = Output(str(tmp_path / "job"))
    open_job(output, str(stories), CONFIG)
    pages = ("index.html", "page-0002.html", "page-12345.html")
    for left in ("rates.json", "plan.json", "status.json", *pages, "films/s0.mp4", "notes.txt"):
        output.publish(left, b"old")
    open_job(output, str(stories), load_config("pocket", profile="draft"), replace=True)
    assert set(output.names("")) == {JOB, "lock", "manifests", "notes.txt"}


def test_a_job_that_is_being_laid_out_is_not_discarded_by_another_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise one output would mix the looks of both."""
    stories, output = write(tmp_path, rows(3)), Output(str(tmp_path / "job"))
    other = load_config("pocket", overrides=["films.fps=12"])

    def raced(*arguments: Any) -> None:
        with pytest.raises(LockedError, match="a command that lays a job out"):
            open_job(output, str(stories), other, replace=True)
        write_stories(*arguments)

    monkeypatch.setattr(job_module, "write_stories", raced)
    job = open_job(output, str(stories), CONFIG)
    assert read_config(output) == CONFIG
    assert open_job(output, str(stories), CONFIG) == job


def test_a_job_is_never_gone_on_with_under_settings_that_shape_other_pixels(
    tmp_path: Path,
) -> None:
    output = Output(str(tmp_path / "job"))
    open_job(output, str(write(tmp_path / "in", rows(2))), CONFIG)
    with pytest.raises(ValueError, match="num_inference_steps=3: shapes pixels"):
        read_config(output, ["keyframes.num_inference_steps=3"])
    assert read_config(output, ["pools.render.num_actors=3"]).rendering() == CONFIG.rendering()


def test_a_setting_that_is_new_in_this_version_does_not_make_an_old_job_another_one(
    tmp_path: Path,
) -> None:
    """Otherwise every new setting would end all jobs that are half done."""
    stories, output = write(tmp_path, rows(3)), Output(str(tmp_path / "job"))
    laid_out = open_job(output, str(stories), CONFIG)
    path = tmp_path / "job" / JOB
    older = json.loads(path.read_text())
    del older["rendering"]["films"]["still_s"]
    older["fingerprint"] = "of-the-older-version"
    path.write_text(json.dumps(older))
    assert open_job(output, str(stories), CONFIG).num_stories == laid_out.num_stories
    other = load_config("pocket", overrides=["execution.shard_size=2", "films.still_s=2.0"])
    with pytest.raises(ValueError, match=r"films\.still_s: 1\.5 there, 2\.0 here"):
        open_job(output, str(stories), other)


def test_a_job_is_continued_without_reading_its_input_or_its_pictures_again(
    tmp_path: Path,
) -> None:
    """Reading 100,000 pictures takes an hour, and one of them may be gone by then."""
    face = tmp_path / "face.png"
    Image.new("RGB", (64, 64), "red").save(face)
    fox = {"name": "Fox", "description": "a fox", "reference_image": "face.png"}
    stories = write(tmp_path, [{"story_id": "s0", "text": "Fox ran.", "characters": [fox]}])
    output = Output(str(tmp_path / "job"))
    job = open_job(output, str(stories), CONFIG)
    face.unlink()
    assert open_job(output, str(stories), CONFIG) == job
    assert read_laid_out_job(output, CONFIG) == job


def test_a_file_that_was_written_again_with_the_same_rows_is_the_same_job(tmp_path: Path) -> None:
    output = Output(str(tmp_path / "job"))
    job = open_job(output, str(write(tmp_path, rows(3))), CONFIG)
    (tmp_path / "stories.jsonl").unlink()
    assert open_job(output, str(write(tmp_path, rows(3))), CONFIG) == job


@pytest.mark.parametrize("limit", [None, 2])
def test_an_input_with_other_rows_is_another_job_and_the_first_can_be_continued(
    limit: int | None, tmp_path: Path
) -> None:
    output = Output(str(tmp_path / "job"))
    job = open_job(output, str(write(tmp_path, rows(3))), CONFIG)
    stories = tmp_path / "stories.jsonl" if limit else write(tmp_path, rows(4))
    with pytest.raises(ValueError, match=r"different job .*storyreel continue"):
        open_job(output, str(stories), CONFIG, limit=limit)
    assert read_laid_out_job(output, CONFIG) == job


def test_a_job_that_was_not_laid_out_to_the_end_is_not_continued(tmp_path: Path) -> None:
    output = Output(str(tmp_path / "job"))
    open_job(output, str(write(tmp_path, rows(3))), CONFIG)
    output.remove("manifests/stories/00000-of-00002.parquet")
    with pytest.raises(ValueError, match="not laid out completely; run `storyreel render`"):
        read_laid_out_job(output, CONFIG)


def test_a_job_of_other_weights_or_other_code_is_not_continued(tmp_path: Path) -> None:
    """Otherwise its keyframes would be of one model and its clips of another."""
    output = Output(str(tmp_path / "job"))
    open_job(output, str(write(tmp_path, rows(3))), CONFIG)
    path = tmp_path / "job" / JOB
    there = json.loads(path.read_text())
    path.write_text(json.dumps(there | {"rendering_version": 1}))
    with pytest.raises(ValueError, match=r"cannot be continued here \(rendering_version: 1 there"):
        read_laid_out_job(output, CONFIG)
