"""Bad input at the command's door: one clear line, and the rest of the job unharmed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from storyreel.flows.commands.cli import app
from storyreel.flows.job.config import load_config
from storyreel.flows.job.job import open_job
from storyreel.flows.run.render import run_render
from storyreel.stages.output.manifests import read_manifests
from storyreel.stages.output.records import Failure, Story
from storyreel.stages.output.storage import Output
from tests.flows.conftest import ROOT

GOOD = {"story_id": "good", "text": "A fox walks in the park."}


def render(*arguments: str) -> Exception:
    """What the command ends with before anything is rendered."""
    result = CliRunner().invoke(app, ["render", *arguments])
    assert result.exception is not None
    assert isinstance(result.exception, ValueError), result.exception
    return result.exception


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write(tmp_path / "stories.jsonl", [GOOD])


def test_an_unknown_config_key_is_named(good: Path, tmp_path: Path) -> None:
    error = render(str(good), "--output", str(tmp_path / "out"), "--set", "keyframes.stepz=3")
    assert "keyframes.stepz: unknown key; known are" in str(error)
    assert not (tmp_path / "out").exists()


def test_a_missing_input_is_named(tmp_path: Path) -> None:
    error = render(str(tmp_path / "nothing.jsonl"), "--output", str(tmp_path / "out"))
    assert "nothing.jsonl" in str(error)


def test_memory_is_no_output(good: Path) -> None:
    assert "memory://x: must be a local path" in str(render(str(good), "--output", "memory://x"))


def test_an_output_that_cannot_be_written_is_named(good: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    error = render(str(good), "--output", str(tmp_path / "file" / "out"))
    assert "cannot be written" in str(error)


def test_an_output_that_holds_another_job_is_left_alone(good: Path, tmp_path: Path) -> None:
    output = Output(str(tmp_path / "out"))
    open_job(output, str(good), load_config("pocket"))
    before = output.read("job.json")
    error = render(str(good), "--output", output.url, "--set", "keyframes.num_inference_steps=19")
    assert "its job has other settings; pass --yes" in str(error)
    assert output.read("job.json") == before


def test_another_input_is_another_job(good: Path, tmp_path: Path) -> None:
    output = Output(str(tmp_path / "out"))
    open_job(output, str(good), load_config("pocket"))
    write(good, [GOOD, {**GOOD, "story_id": "more"}])
    with pytest.raises(ValueError, match="num_stories: 1 there, 2 here"):
        open_job(output, str(good), load_config("pocket"))


def test_another_job_can_be_thrown_away_on_request(good: Path, tmp_path: Path) -> None:
    output = Output(str(tmp_path / "out"))
    open_job(output, str(good), load_config("pocket"))
    output.publish("films/good.mp4", b"old")
    other = load_config("pocket", profile="draft")
    job = open_job(output, str(good), other, replace=True)
    assert job.unfinished() == job.shards
    assert not output.exists("films/good.mp4")


def test_a_job_that_was_discarded_meanwhile_is_not_rendered_under_its_old_settings(
    good: Path, tmp_path: Path, prefect_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", prefect_url)
    output, config = Output(str(tmp_path / "out")), load_config("pocket")
    job = open_job(output, str(good), config)
    open_job(output, str(good), load_config("pocket", profile="draft"), replace=True)
    with pytest.raises(ValueError, match="contains another job now"):
        run_render(job, config)
    assert not output.exists("units")


def test_the_same_job_goes_on_with_other_actors(good: Path, tmp_path: Path) -> None:
    output = Output(str(tmp_path / "out"))
    first = open_job(output, str(good), load_config("pocket"))
    more = load_config("pocket", overrides=["pools.render.num_actors=3", "execution.shard_size=9"])
    assert open_job(output, str(good), more) == first


BAD_ROWS: list[tuple[Any, str]] = [
    ({"story_id": "empty"}, "text"),
    ({"story_id": "good", "text": "Again."}, "earlier row has this id"),
    ({"story_id": "../escape", "text": "Out."}, "story_id"),
    ({"story_id": "x" * 10_000, "text": "Long."}, "story_id"),
    ({"story_id": "nopanels", "panels": []}, "panels"),
    ({"story_id": "stranger", "panels": ["[Bob] walks"]}, "Bob"),
]


@pytest.mark.parametrize(("row", "named"), BAD_ROWS)
def test_a_bad_row_is_reported_by_place_and_the_others_stay(
    row: Any, named: str, tmp_path: Path
) -> None:
    last = {"story_id": "last", "text": "The end."}
    stories = write(tmp_path / "stories.jsonl", [GOOD, row, last])
    job = open_job(Output(str(tmp_path / "out")), str(stories), load_config("pocket"))
    kept = [story.story_id for story in read_manifests(job.output, "stories", Story)]
    (failure,) = read_manifests(job.output, "failures", Failure)
    assert kept == ["good", "last"]
    assert (failure.stage, failure.source_row) == ("input", 2)
    assert failure.source_file.endswith("stories.jsonl")
    assert named.casefold() in failure.message.casefold()
    assert len(failure.message) < 1000


def test_what_nobody_foresaw_is_told_in_full_and_is_no_story_that_failed(tmp_path: Path) -> None:
    """Exit code 1 would say that some story failed."""
    (tmp_path / "job.json").mkdir()
    command = [sys.executable, "-m", "storyreel", "status", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert "IsADirectoryError" in done.stderr


def test_a_job_without_an_accepted_story_claims_no_output(tmp_path: Path) -> None:
    stories = write(tmp_path / "stories.jsonl", [{"story_id": "a"}] * 68)
    error = render(str(stories), "--output", str(tmp_path / "out"))
    assert "contains no valid story" in str(error)
    assert "rows 1, 2, 3, 4, 5 and 63 more: a story needs `text`" in str(error)
    assert not (tmp_path / "out" / "job.json").exists()
