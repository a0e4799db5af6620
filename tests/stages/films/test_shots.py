"""Storyboards of the prompts stage as films: which panel is seen when, and under which caption."""

from itertools import groupby
from typing import Any

import pytest

from storyreel.stages.input.config import InputConfig
from storyreel.stages.models.config import ModelConfig
from storyreel.stages.output.records import Film, Storyboard
from storyreel.stages.prompts.config import PromptsConfig
from storyreel.stages.prompts.stage import PromptsStage
from tests.stages.films.conftest import Job, cues_of, frames_of
from tests.stages.prompts.builders import panel, story


@pytest.fixture(scope="module")
def stage() -> PromptsStage:
    model = ModelConfig(path="models/pocket")
    return PromptsStage(
        config=PromptsConfig(reading_speed=0),
        model=model,
        num_frames=16,
        fps=8,
        still_s=1.5,
        limits=InputConfig(),
    )


def board_of(stage: PromptsStage, *shots: str) -> Storyboard:
    """The storyboard of panels "0", "1" ... of these shots."""
    (board,) = stage(story(*(panel(str(k), shot=shot) for k, shot in enumerate(shots))))
    return board


def film_of(job: Job, board: Storyboard, **settings: Any) -> Film:
    job.add_board(board)
    return job.film(board.story_id, crf=1, **settings)


def standing(job: Job, film: Film) -> list[tuple[int, int]]:
    """Which keyframe is seen, nearly at least, for how many frames."""
    frames = frames_of(job.folder / film.path)
    assert len(frames) == film.num_frames
    levels = [round((float(frame[16, 24].mean()) - 40) / 5) for frame in frames]
    return [(level, len(list(run))) for level, run in groupby(levels)]


def captions(job: Job, film: Film) -> list[tuple[int, int, str]]:
    """(start, end, text) of each caption, in milliseconds."""
    cues = cues_of(job.folder / film.path)
    return [(start, start + length, text) for start, length, text in cues]


@pytest.mark.parametrize("shot", ["hold", "cut"])
def test_panels_that_nothing_moves_stand_one_after_the_other_to_the_last(
    job: Job, stage: PromptsStage, shot: str
) -> None:
    film = film_of(job, board_of(stage, *[shot] * 5), still_s=2.0)
    assert standing(job, film) == [(0, 8), (1, 8), (2, 8), (3, 8), (4, 16)]
    assert captions(job, film) == [
        (0, 1000, "0"), (1000, 2000, "1"), (2000, 3000, "2"), (3000, 4000, "3"), (4000, 6000, "4"),
    ]  # fmt: skip


def test_a_cut_between_panels_that_move_is_immediate(job: Job, stage: PromptsStage) -> None:
    film = film_of(job, board_of(stage, "motion", "cut", "motion", "motion"), still_s=1.5)
    assert film.num_frames == 15 + 1 + 15 + 12
    assert captions(job, film) == [
        (0, 1875, "0"), (1875, 2000, "1"), (2000, 3875, "2"), (3875, 5375, "3"),
    ]  # fmt: skip


def test_a_panel_between_two_cuts_stands(job: Job, stage: PromptsStage) -> None:
    film = film_of(job, board_of(stage, "motion", "cut", "cut", "motion", "motion"), still_s=1.5)
    assert film.num_frames == 15 + 1 + 8 + 15 + 12
    assert captions(job, film)[2] == (2000, 3000, "2")


def test_a_panel_that_is_dissolved_to_stands_at_the_end(job: Job, stage: PromptsStage) -> None:
    film = film_of(job, board_of(stage, "motion", "dissolve", "motion"), still_s=2.0)
    assert film.num_frames == 16 + 7 + 16
    assert standing(job, film)[-1][0] == 2
    assert captions(job, film)[-1] == (2875, 4875, "2")


def test_the_last_picture_stands_so_that_its_caption_can_be_read(
    job: Job, stage: PromptsStage
) -> None:
    film = film_of(job, board_of(stage, "hold", "motion", "motion"), still_s=2.0)
    assert film.num_frames == 8 + 15 + 16
    assert captions(job, film) == [(0, 1000, "0"), (1000, 2875, "1"), (2875, 4875, "2")]


def test_a_story_of_one_panel_with_one_beat_is_a_still(job: Job, stage: PromptsStage) -> None:
    (board,) = stage(story(panel("0", beats=1)))
    film = film_of(job, board, still_s=1.5)
    assert standing(job, film) == [(0, 12)]
    assert captions(job, film) == [(0, 1500, "0")]
