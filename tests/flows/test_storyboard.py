"""`storyreel storyboard`: the split as rows that a person edits and renders."""

import json
from pathlib import Path

from typer.testing import CliRunner

from storyreel.flows.commands.cli import app
from storyreel.flows.commands.storyboards import Report, storyboard_rows
from storyreel.flows.job.config import load_config
from storyreel.flows.job.job import open_job
from storyreel.stages.output.storage import Output


def storyboard(stories: Path, config: Path) -> str:
    options = ["--config", str(config), "--jsonl"]
    result = CliRunner().invoke(app, ["storyboard", str(stories), *options])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_split_is_itself_an_input_that_splits_into_the_same(
    stories: Path, tiny_config: Path, tmp_path: Path
) -> None:
    written = storyboard(stories, tiny_config)
    again = tmp_path / "edited.jsonl"
    again.write_text(written, encoding="utf-8")
    assert storyboard(again, tiny_config) == written


def test_the_split_can_be_laid_out_as_a_job(
    stories: Path, tiny_config: Path, tmp_path: Path
) -> None:
    edited = tmp_path / "edited.jsonl"
    edited.write_text(storyboard(stories, tiny_config), encoding="utf-8")
    job = open_job(Output(str(tmp_path / "out")), str(edited), load_config(str(tiny_config)))
    assert (job.num_stories, job.num_rejected) == (3, 0)


def test_prose_is_split_at_its_sentences_and_keeps_its_words(
    stories: Path, tiny_config: Path
) -> None:
    rows = {row["story_id"]: row for row in map(json.loads, _lines(stories, tiny_config))}
    captions = [panel["caption"] for panel in rows["fox"]["panels"]]
    assert captions == ["A fox walks in the park.", "The fox runs to the beach.", "It sleeps."]


def _lines(stories: Path, config: Path) -> list[str]:
    return storyboard(stories, config).splitlines()


def test_only_the_first_rows_are_read_on_request(stories: Path, tiny_config: Path) -> None:
    rows = list(
        storyboard_rows(str(stories), load_config(str(tiny_config)), limit=1, report=Report())
    )
    assert [row["story_id"] for row in rows] == ["fox"]


def test_people_get_yaml_that_splits_into_the_same(
    stories: Path, tiny_config: Path, tmp_path: Path
) -> None:
    command = ["storyboard", str(stories), "--config", str(tiny_config)]
    written = CliRunner().invoke(app, command).stdout
    assert written.startswith("- story_id: fox\n  panels:\n  - text: ")
    (tmp_path / "edited.yaml").write_text(written, encoding="utf-8")
    assert storyboard(tmp_path / "edited.yaml", tiny_config) == storyboard(stories, tiny_config)


def test_what_is_unsure_and_what_was_refused_is_told_and_nothing_at_all_is_a_failure(
    tiny_config: Path, tmp_path: Path
) -> None:
    path = tmp_path / "stories.jsonl"
    rows: list[dict[str, str]] = [{"story_id": "a"}, {"story_id": "b"}]
    path.write_text("\n".join(map(json.dumps, rows)))
    command = ["storyboard", str(path), "--config", str(tiny_config)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert "rows 1, 2: a story needs `text`" in result.stderr
    path.write_text(json.dumps({"story_id": "c", "text": "A house stood there. She sang loudly."}))
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0
    assert "c: characters: unclear: 'she' in panel 1" in result.stderr
