from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storyreel.stages.output.records import ShotKind
from storyreel.stages.prompts.beats import (
    FilmTiming,
    PacedPanel,
    count_beats,
    plan_shots,
    planned_frames,
)
from storyreel.stages.prompts.config import PromptsConfig
from tests.stages.prompts.builders import panel

TIMING = FilmTiming(num_frames=16, fps=8, hold_s=1.0, dissolve_s=0.5, still_s=1.5, reading_speed=0)
READ = replace(TIMING, reading_speed=17.0)


def paced(text: str, timing: FilmTiming = TIMING, **fields: Any) -> PacedPanel:
    return PacedPanel.of(panel(text, **fields), text, timing)


def panels(*texts: str) -> tuple[PacedPanel, ...]:
    return tuple(paced(text) for text in texts)


def kinds(told: tuple[PacedPanel, ...], beats: tuple[int, ...]) -> list[str]:
    return [kind.value for kind, _ in plan_shots(told, beats, TIMING)]


def test_a_minute_of_sixteen_frame_clips_needs_33_keyframes() -> None:
    beats = count_beats(panels(*["a text"] * 15), 60.0, TIMING)
    assert sum(beats) == 33
    assert set(beats) == {2, 3}


def test_without_a_length_every_panel_has_one_beat() -> None:
    assert count_beats(panels("a", "b", "c"), None, TIMING) == (1, 1, 1)


def test_longer_texts_get_the_extra_beats() -> None:
    assert count_beats(panels("a", "a long text", "b"), 5.0, TIMING) == (1, 2, 1)


def test_stated_beats_are_kept() -> None:
    given_panels = (paced("a", beats=5), paced("b"))
    assert count_beats(given_panels, 1.0, TIMING) == (5, 1)
    assert count_beats(given_panels, 60.0, TIMING)[0] == 5


def test_a_story_of_one_panel_moves_unless_it_states_a_single_beat() -> None:
    assert count_beats(panels("a"), None, TIMING) == (2,)
    assert count_beats((paced("a", beats=1),), None, TIMING) == (1,)
    assert count_beats((paced("a", beats=1),), 60.0, TIMING) == (1,)


@pytest.mark.parametrize(
    ("shots", "joins"),
    [
        ("cut cut cut", "hold hold"),
        ("motion cut cut motion", "motion cut hold"),
        ("hold cut motion", "hold hold"),
        ("dissolve cut motion", "dissolve hold"),
        ("cut motion motion", "hold motion"),
    ],
)
def test_a_cut_from_a_panel_that_no_motion_has_reached_holds_it_first(
    shots: str, joins: str
) -> None:
    told = tuple(paced("a", shot=shot) for shot in shots.split())
    assert kinds(told, (1,) * len(told)) == joins.split()


def test_beats_are_motion_so_that_a_cut_after_them_is_immediate() -> None:
    told = (paced("a", shot="cut"), paced("b", shot="cut"), paced("c"))
    assert kinds(told, (2, 1, 1)) == ["cut", "hold"]
    assert planned_frames(told, (2, 1, 1), TIMING) == 1 + 15 + 1 + 8


def test_each_kind_of_shot_has_its_length_with_both_keyframes() -> None:
    frames = {kind.value: TIMING.shot_frames(kind) for kind in ShotKind}
    assert frames == {"motion": 16, "cut": 2, "hold": 9, "dissolve": 5}


@given(
    st.lists(st.tuples(st.text(min_size=1), st.sampled_from(list(ShotKind))), min_size=1),
    st.floats(0.01, 300),
    st.integers(3, 33),
    st.integers(1, 60),
)
def test_a_film_is_never_shorter_than_asked_and_at_most_a_clip_too_long(
    texts: list[tuple[str, ShotKind]], duration_s: float, num_frames: int, fps: int
) -> None:
    timing = replace(TIMING, num_frames=num_frames, fps=fps)
    story = tuple(paced(text, shot=kind) for text, kind in texts)
    beats = count_beats(story, duration_s, timing)
    frames = planned_frames(story, beats, timing)
    assert frames / fps >= duration_s - 1e-6
    bare = planned_frames(story, count_beats(story, None, timing), timing)
    assert frames < max(bare + 1, timing.film_frames(duration_s) + num_frames - 1)


@pytest.mark.parametrize(("num_frames", "fps"), [(2, 8), (16, 0)])
def test_a_clip_needs_frames_between_its_keyframes(num_frames: int, fps: int) -> None:
    with pytest.raises(ValueError, match=r"num_frames 2|fps 0"):
        FilmTiming.of(PromptsConfig(), num_frames=num_frames, fps=fps, still_s=1.5)


def seen(story: tuple[PacedPanel, ...], beats: tuple[int, ...]) -> list[int]:
    """For how many frames the caption of each panel is seen."""
    behind = [frames - 1 for _, frames in plan_shots(story, beats, READ)] + [READ.still_frames]
    return [(count - 1) * 15 + frames for count, frames in zip(beats, behind, strict=True)]


@given(
    st.lists(
        st.tuples(st.text(max_size=400), st.sampled_from(list(ShotKind))), min_size=1, max_size=9
    )
)
def test_every_caption_is_seen_for_as_long_as_it_needs(texts: list[tuple[str, ShotKind]]) -> None:
    story = tuple(paced(text, READ, shot=kind) for text, kind in texts)
    beats = count_beats(story, None, READ)
    needed = [panel.reading_frames for panel in story]
    assert all(has >= needs for has, needs in zip(seen(story, beats), needed, strict=True))


def test_a_caption_gets_beats_only_as_far_as_it_needs_them() -> None:
    story = (paced("a" * 30, READ), paced("b" * 60, READ), paced("c" * 20, READ))
    assert count_beats(story, None, READ) == (1, 2, 1)


def test_a_hold_stands_for_as_long_as_its_caption_needs() -> None:
    story = (paced("a" * 60, READ, shot="hold"), paced("b", READ))
    assert count_beats(story, None, READ) == (1, 1)
    assert plan_shots(story, (1, 1), READ) == ((ShotKind.HOLD, 30),)


def test_a_cut_that_would_take_the_caption_away_waits() -> None:
    story = (paced("a", READ), paced("Then out.", READ, shot="cut", beats=1), paced("b", READ))
    assert plan_shots(story, (1, 1, 1), READ)[1] == (ShotKind.HOLD, 11)
