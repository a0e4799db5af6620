"""Whole stories scored from real files: what wins, what cannot win, what is refused."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from storyreel.stages.motion.frames import hold
from storyreel.stages.output.manifests import Shard
from storyreel.stages.output.records import ShotKind
from storyreel.stages.scoring.records import StoryScores
from storyreel.stages.scoring.stage import ScoringStage
from storyreel.stages.units import ScoringUnit
from storyreel.training import world
from storyreel.training.stories import held_out_story
from tests.stages.films.conftest import SHARD, Job
from tests.stages.scoring.conftest import config_of, scene

PANELS = 4
FRAMES = 6


class Story:
    """A story at an output, whose panels and clips a test may change before it is scored."""

    def __init__(self, folder: Path, clip_folder: Path) -> None:
        self.job = Job(folder)
        self.job.add_story("fox", [f"shot {k}" for k in range(PANELS)], [FRAMES] * (PANELS - 1))
        self.clip_folder = clip_folder
        self.show([scene(seed) for seed in range(PANELS)])
        for place in range(PANELS - 1):
            self.play(place, panning(10 + place))
        prompts = [f"a fox in place {k}" for k in range(PANELS)]
        self.job.panels = [
            replace(panel, prompt=prompt, characters=("Fox",))
            for panel, prompt in zip(self.job.panels, prompts, strict=True)
        ]

    def show(self, pictures: list[np.ndarray]) -> None:
        self.job.keyframes = [
            self.job._keyframe("fox", k, picture) for k, picture in enumerate(pictures)
        ]

    def play(self, place: int, frames: np.ndarray, kind: ShotKind = ShotKind.MOTION) -> None:
        self.job.clips[place] = replace(self.job._clip("fox", place, frames), kind=kind)
        self.job.shots[place] = replace(
            self.job.shots[place], kind=kind, num_frames=frames.shape[0]
        )

    def score(self, masks: Path | None = None, **settings: Any) -> StoryScores:
        self.job.seal()
        folder = None if masks is None else str(masks)
        config = config_of(self.clip_folder, masks=folder, **settings)
        stage = ScoringStage(output_url=str(self.job.folder), config=config)
        (scores,) = stage(ScoringUnit(story_id="fox", shard=SHARD))
        assert isinstance(scores, StoryScores)
        return scores


def panning(seed: int) -> np.ndarray:
    wide = scene(seed, side=160)
    return np.stack([wide[:128, 4 * t : 4 * t + 128] for t in range(FRAMES)])


@pytest.fixture
def story(tmp_path: Path, clip_folder: Path) -> Story:
    return Story(tmp_path / "output", clip_folder)


def test_every_panel_and_clip_gets_its_score_and_the_film_their_means(story: Story) -> None:
    scores = story.score()
    assert [panel.keyframe_index for panel in scores.panels] == list(range(PANELS))
    assert [clip.shot_index for clip in scores.clips] == list(range(PANELS - 1))
    similarities = [panel.text_similarity for panel in scores.panels]
    assert scores.film.text_similarity == pytest.approx(np.mean(similarities))
    assert scores.film.clipsim_first == pytest.approx(
        np.mean([clip.clipsim_first for clip in scores.clips])  # type: ignore[arg-type]
    )
    assert (scores.film.copy_rate, scores.film.static_rate) == (0, 0)
    assert load_file(story.job.folder / scores.features.path)["count"] == PANELS


def test_a_frozen_film_has_perfect_similarities_and_is_flagged_static(story: Story) -> None:
    for place in range(PANELS - 1):
        story.play(place, np.repeat(scene(place)[None], FRAMES, axis=0))
    film = story.score().film
    assert film.clipsim_frames == pytest.approx(1, abs=1e-5)
    assert film.perceptual_first == pytest.approx(0, abs=1e-5)
    assert (film.static_rate, film.motion_magnitude, film.displacement) == (1, 0, 0)


def test_identical_panels_are_alike_but_flagged_as_copies(story: Story) -> None:
    story.show([scene(1)] * PANELS)
    scores = story.score()
    assert scores.film.character_similarity == pytest.approx(1, abs=1e-5)
    assert scores.film.copy_rate == 1
    assert all(panel.copied for panel in scores.panels)
    assert sum(bool(panel.retrieved) for panel in scores.panels) <= 1


def test_one_copied_panel_names_both_that_share_the_picture(story: Story) -> None:
    story.show([scene(0), scene(1), scene(0), scene(3)])
    scores = story.score()
    assert [panel.copied for panel in scores.panels] == [True, False, True, False]
    assert scores.film.copy_rate == pytest.approx(1 / 6)


def test_beats_of_one_prompt_are_no_copies(story: Story) -> None:
    story.show([scene(1)] * PANELS)
    story.job.panels = [replace(panel, prompt="a fox", panel_index=0) for panel in story.job.panels]
    scores = story.score()
    assert scores.film.copy_rate is None
    assert scores.film.retrieval is None
    assert scores.film.character_similarity is None
    assert {panel.copied for panel in scores.panels} == {None}


def test_shots_that_no_model_rendered_count_as_still_or_not_at_all(story: Story) -> None:
    story.play(0, np.stack([scene(0), scene(1)]), ShotKind.CUT)
    story.play(1, hold(scene(1), scene(2), FRAMES), ShotKind.HOLD)
    scores = story.score()
    assert [clip.static for clip in scores.clips] == [None, True, False]
    assert [clip.clipsim_first is None for clip in scores.clips] == [True, True, False]
    assert scores.film.static_rate == 0.5
    assert {clip.join_jump for clip in scores.clips} == {None}


def test_joins_are_measured_between_neighbouring_rendered_clips(story: Story) -> None:
    smooth = story.score()
    first, second, last = smooth.clips
    assert last.join_jump is None
    assert smooth.film.worst_join == max(first.join_jump or 0, second.join_jump or 0)
    frames = panning(11)
    frames[1:] = 255 - frames[1:]
    story.play(1, frames)
    assert (story.score().clips[0].join_jump or 0) > 4 * (first.join_jump or 0)


def save_masks(folder: Path, count: int, shape: tuple[int, int]) -> Path:
    """White where `scene` draws a figure at (50, 60)."""
    (folder / "fox").mkdir(parents=True)
    mask = np.zeros(shape, dtype=np.uint8)
    mask[60:104, 54:66] = 255
    for index in range(count):
        Image.fromarray(mask).save(folder / "fox" / f"{index:04d}.png")
    return folder


def test_with_a_mask_the_background_does_not_count_for_the_character(
    story: Story, tmp_path: Path
) -> None:
    """The same figure at the same place before four backgrounds is one character."""
    story.show([scene(seed, figure=(50, 60)) for seed in range(PANELS)])
    masks = save_masks(tmp_path / "masks", PANELS, (128, 128))
    masked, whole = story.score(masks).film, story.score().film
    assert masked.character_similarity is not None
    assert whole.character_similarity is not None
    assert masked.character_similarity > whole.character_similarity
    assert masked.text_similarity == whole.text_similarity


def test_where_the_mask_is_not_known_the_whole_picture_counts(story: Story, tmp_path: Path) -> None:
    assert story.score(tmp_path).panels == story.score().panels


def test_a_mask_of_another_picture_is_named(story: Story, tmp_path: Path) -> None:
    masks = save_masks(tmp_path / "masks", PANELS, (64, 128))
    with pytest.raises(ValueError, match=r"story fox: mask fox/0000.png .*\(128, 64\), must be"):
        story.score(masks)


def test_a_story_of_one_panel_has_scores_of_its_panel_only(
    tmp_path: Path, clip_folder: Path
) -> None:
    job = Job(tmp_path / "output")
    job.add_story("still", ["alone"], [])
    job.seal()
    stage = ScoringStage(output_url=str(job.folder), config=config_of(clip_folder))
    (scores,) = stage(ScoringUnit(story_id="still", shard=SHARD))
    assert isinstance(scores, StoryScores)
    assert len(scores.panels) == 1
    assert scores.clips == ()
    film = scores.film
    assert np.isfinite(film.text_similarity)
    assert {film.retrieval, film.copy_rate, film.static_rate, film.worst_join} == {None}


def test_a_damaged_keyframe_or_clip_is_named_with_its_story(story: Story) -> None:
    path = story.job.clips[1].path
    (story.job.folder / path).write_bytes(b"x" * story.job.clips[1].size)
    with pytest.raises(ValueError, match=rf"story fox: .*{path}.*damaged"):
        story.score()
    (story.job.folder / story.job.keyframes[2].path).unlink()
    with pytest.raises(ValueError, match=r"story fox: keyframes/fox/0002.png: missing"):
        story.score()


def test_a_shard_that_is_not_there_is_named(story: Story) -> None:
    story.job.seal()
    stage = ScoringStage(output_url=str(story.job.folder), config=config_of(story.clip_folder))
    with pytest.raises(FileNotFoundError):
        stage(ScoringUnit(story_id="fox", shard=Shard(index=1, count=2)))


ESTIMATOR = {"path": "models/pocket", "subfolder": "truth_estimator"}


def drawn(outfits: Sequence[world.Outfit], character: str = "fox") -> list[np.ndarray]:
    """A picture of the character in each outfit, each at another place and action."""
    alone = held_out_story(1, num_panels=PANELS)
    assert len(alone.characters) == 1
    return [
        world.draw(
            replace(
                panel.scene,
                time_of_day="day",
                figures=(replace(panel.scene.figures[0], character=character, outfit=outfit),),
            )
        )
        for panel, outfit in zip(alone.panels, outfits, strict=True)
    ]


def test_the_estimator_tells_whether_a_character_keeps_its_clothes(story: Story) -> None:
    red, blue = (
        world.Outfit(top=top, bottom=bottom, hat=hat)
        for top, bottom, hat in (("red", "black", "yellow"), ("blue", "white", "red"))
    )
    story.show(drawn([red, red, red, blue]))
    scores = story.score(truth_estimator=ESTIMATOR)
    assert [panel.same_clothes for panel in scores.panels] == pytest.approx([2 / 3] * 3 + [0])
    assert (scores.film.same_characters, scores.film.same_clothes) == (1, 0.5)
    (figure,) = scores.panels[3].seen_figures or ()
    assert (figure.character, figure.clothes) == ("fox", ("blue", "white", "red"))
    actual = [panel.scene.place for panel in held_out_story(1, num_panels=PANELS).panels]
    assert [panel.seen_place for panel in scores.panels] == actual


def test_a_picture_that_shows_nobody_agrees_with_none(story: Story) -> None:
    outfit = world.Outfit(top="red", bottom="black", hat="yellow")
    pictures = drawn([outfit] * PANELS)
    story.show([*pictures[:-1], np.full_like(pictures[0], 127)])
    scores = story.score(truth_estimator=ESTIMATOR)
    assert (scores.panels[3].same_characters, scores.panels[3].same_clothes) == (0, 0)
    assert scores.film.same_clothes == 0.5


def test_without_an_estimator_nobody_is_asked_what_pictures_show(story: Story) -> None:
    scores = story.score()
    assert (scores.film.same_clothes, scores.panels[0].seen_figures) == (None, None)
