"""`import storyreel` in a notebook or a script."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import storyreel
from storyreel.stages.video import check_film
from tests.flows.conftest import ROOT


@pytest.fixture(scope="module")
def renderer(tiny_config: Path) -> storyreel.Renderer:
    return storyreel.Renderer(str(tiny_config))


def test_importing_the_package_loads_no_heavy_library() -> None:
    code = "import storyreel, sys; print({'torch', 'diffusers', 'ray', 'prefect'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_every_public_name_exists_and_is_documented() -> None:
    for name in storyreel.__all__:
        assert getattr(storyreel, name).__doc__, name
    assert set(storyreel.__all__) <= set(dir(storyreel))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        storyreel.nothing  # noqa: B018


def test_a_story_becomes_an_image_per_panel(renderer: storyreel.Renderer) -> None:
    story = storyreel.make_story(panels=["a fox walks", "a fox sleeps", "a fox runs"])
    keyframes = renderer.keyframes(story)
    assert [image.size for image in keyframes] == [(32, 32)] * 3
    assert [image.mode for image in keyframes] == ["RGB"] * 3


def test_a_story_becomes_the_film_that_a_job_makes_of_it(
    renderer: storyreel.Renderer, rendered: Path, tmp_path: Path
) -> None:
    """A picture that looks other in a notebook than in the night's job would mislead."""
    told: list[tuple[str, int, int]] = []
    text = "A fox walks in the park. The fox runs to the beach. It sleeps."
    story = storyreel.make_story("fox", text=text)
    film = renderer.film(story, tmp_path / "new" / "fox.mp4", lambda *step: told.append(step))
    assert check_film(film.path) == film.num_frames
    assert film.subtitles_path.read_text() == (rendered / "films/fox.srt").read_text()
    assert film.sheet_path.read_bytes() == (rendered / "films/fox.png").read_bytes()
    assert told[0] == ("keyframes", 1, 1)
    assert told[-1] == ("films", 1, 1)


def test_an_unknown_field_of_a_story_is_named() -> None:
    with pytest.raises(ValueError, match="txt: unknown key"):
        storyreel.make_story(txt="A fox walks.")


def test_an_opened_job_tells_its_films_and_tables(rendered: Path) -> None:
    job = storyreel.open_job(str(rendered))
    assert job.status().phase == "finished"
    assert job.num_stories == len(job.films()) == 3
    assert not job.failures()
    table = job.table("keyframes")
    assert table.num_rows == 3 + 3 + 5
    assert np.unique(table["story_id"]).tolist() == ["bear", "fox", "zoe"]
    assert Path(job.location(job.films()[0].path)).is_file()
    assert not job.verify().problems


def test_a_table_that_is_not_there_is_told_with_those_that_are(rendered: Path) -> None:
    with pytest.raises(ValueError, match="there are clips, failures, films, keyframes"):
        storyreel.open_job(str(rendered)).table("scores_films")


def test_a_folder_without_a_job_is_no_job(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no job"):
        storyreel.open_job(str(tmp_path))


def test_a_submission_without_a_server_says_so(tmp_path: Path) -> None:
    server = tmp_path / "server.toml"
    server.write_text("[server]\nport = 1\n")
    with pytest.raises(ConnectionError):
        storyreel.submit("stories.jsonl", "out", server=server)
