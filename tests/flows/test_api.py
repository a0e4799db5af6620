"""`import storyreel` in a notebook or a script."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import storyreel
from storyreel.stages.output.records import Film
from storyreel.stages.output.serialization import schema_of
from storyreel.stages.video import check_film
from tests.flows.conftest import ROOT


def read_png(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


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


def test_the_keyframes_of_a_story_are_those_of_a_job(
    renderer: storyreel.Renderer, rendered: Path
) -> None:
    text = "A fox walks in the park. The fox runs to the beach. It sleeps."
    keyframes = renderer.keyframes(storyreel.make_story("fox", text=text))
    files = sorted((rendered / "keyframes/fox").glob("*.png"))
    for keyframe, file in zip(keyframes, files, strict=True):
        assert np.array_equal(keyframe, read_png(file))


def test_a_film_takes_over_the_keyframes_and_keeps_no_clips(
    tiny_config: Path, tmp_path: Path
) -> None:
    renderer = storyreel.Renderer(str(tiny_config))
    folder = Path(renderer._output.url)
    story = storyreel.make_story(panels=["a bear sits", "a bear runs"])
    renderer.keyframes(story)
    pictures = {path: path.stat().st_mtime_ns for path in folder.glob("keyframes/*/*.png")}
    renderer.film(story, tmp_path / "bear.mp4")
    assert pictures == {path: path.stat().st_mtime_ns for path in pictures}
    assert not list(folder.rglob("*.mkv"))


def test_an_edited_story_of_the_same_id_is_rendered_anew(renderer: storyreel.Renderer) -> None:
    story = storyreel.make_story(panels=["a bear sits", "a bear runs"])
    before = renderer.keyframes(story)
    after = renderer.keyframes(replace(story, seed=1))
    assert not np.array_equal(before[0], after[0])
    assert np.array_equal(before[0], renderer.keyframes(story)[0])


def test_a_control_image_that_nothing_would_follow_is_refused(
    renderer: storyreel.Renderer,
) -> None:
    story = storyreel.make_story(panels=[{"text": "a bear", "control_image": "pose.png"}])
    message = r"panels\[0\]: control_image 'pose\.png': must be left out"
    with pytest.raises(ValueError, match=message):
        renderer.keyframes(story)


@pytest.mark.parametrize(
    ("key", "value"), [("layout", {"Tom": [0, 0, 1, 1]}), ("place", "the wood")]
)
def test_a_layout_or_place_that_would_have_no_effect_is_refused(
    renderer: storyreel.Renderer, key: str, value: object
) -> None:
    panels = [{"text": "[Tom] sits", key: value}]
    story = storyreel.make_story(panels=panels, characters=["[Tom] a man"])
    message = rf"panels\[0\]: {key}: must be left out.*subject = false"
    with pytest.raises(ValueError, match=message):
        renderer.keyframes(story)


def test_a_control_image_is_copied_before_the_panels_name_it(
    tiny_config: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "pose.png")
    guided = ["keyframes.controlnet={path='unused'}"]
    renderer = storyreel.Renderer(str(tiny_config), overrides=guided, images=str(tmp_path))
    story = storyreel.make_story(panels=[{"text": "a bear", "control_image": "pose.png"}])
    (panel,) = {panel.control_image for panel in renderer.storyboard(story).panels}
    assert panel is not None
    assert panel.startswith("references/")


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


def test_a_table_whose_stage_has_not_begun_has_no_rows(rendered: Path, tmp_path: Path) -> None:
    (tmp_path / "job.json").write_bytes((rendered / "job.json").read_bytes())
    table = storyreel.open_job(str(tmp_path)).table("films")
    assert (table.num_rows, table.column_names) == (0, schema_of(Film).names)


@pytest.mark.parametrize("name", ["movies", "scores", "../manifests/films", ""])
def test_an_unknown_table_is_refused(rendered: Path, name: str) -> None:
    with pytest.raises(ValueError, match="there are clips, failures, films, keyframes"):
        storyreel.open_job(str(rendered)).table(name)


def test_a_folder_without_a_job_is_no_job(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no job"):
        storyreel.open_job(str(tmp_path))


def test_a_submission_without_a_server_says_so(tmp_path: Path) -> None:
    server = tmp_path / "server.toml"
    server.write_text("[server]\nport = 1\n")
    with pytest.raises(ConnectionError):
        storyreel.submit("stories.jsonl", "out", server=server)


def test_a_submission_is_checked_before_a_server_is_asked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="priority 10: must be from 1 to 9"):
        storyreel.submit("examples", str(tmp_path), priority=10)
