import pytest
from hypothesis import given
from hypothesis import strategies as st

from storyreel.stages.output.records import PanelInput, ShotKind
from storyreel.stages.prompts.beats import FilmTiming, count_beats, plan_joins, planned_frames
from storyreel.stages.prompts.config import PromptsConfig
from tests.stages.prompts.builders import panel

TIMING = FilmTiming(num_frames=16, fps=8, hold_s=1.0, dissolve_s=0.5)


def panels(*texts: str) -> tuple[PanelInput, ...]:
    return tuple(panel(text) for text in texts)


def test_a_minute_of_sixteen_frame_clips_needs_33_keyframes() -> None:
    beats = count_beats(panels(*["a text"] * 15), 60.0, TIMING)
    assert sum(beats) == 33
    assert set(beats) == {2, 3}


def test_without_a_length_every_panel_has_one_beat() -> None:
    assert count_beats(panels("a", "b", "c"), None, TIMING) == (1, 1, 1)


def test_longer_texts_get_the_extra_beats() -> None:
    assert count_beats(panels("a", "a long text", "b"), 5.0, TIMING) == (1, 2, 1)


def test_stated_beats_are_kept() -> None:
    given_panels = (panel("a", beats=5), panel("b"))
    assert count_beats(given_panels, 1.0, TIMING) == (5, 1)
    assert count_beats(given_panels, 60.0, TIMING)[0] == 5


def test_a_story_of_one_panel_moves_unless_it_states_a_single_beat() -> None:
    assert count_beats(panels("a"), None, TIMING) == (2,)
    assert count_beats((panel("a", beats=1),), None, TIMING) == (1,)
    assert count_beats((panel("a", beats=1),), 60.0, TIMING) == (1,)


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
    told = tuple(panel("a", shot=shot) for shot in shots.split())
    assert [kind.value for kind in plan_joins(told, (1,) * len(told))] == joins.split()


def test_beats_are_motion_so_that_a_cut_after_them_is_immediate() -> None:
    told = (panel("a", shot="cut"), panel("b", shot="cut"), panel("c"))
    assert [kind.value for kind in plan_joins(told, (2, 1, 1))] == ["cut", "hold"]
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
    timing = FilmTiming(num_frames=num_frames, fps=fps, hold_s=1.0, dissolve_s=0.5)
    story = tuple(panel(text, shot=kind) for text, kind in texts)
    beats = count_beats(story, duration_s, timing)
    frames = planned_frames(story, beats, timing)
    assert frames / fps >= duration_s - 1e-6
    bare = planned_frames(story, count_beats(story, None, timing), timing)
    assert frames < max(bare + 1, timing.film_frames(duration_s) + num_frames - 1)


@pytest.mark.parametrize(("num_frames", "fps"), [(2, 8), (16, 0)])
def test_a_clip_needs_frames_between_its_keyframes(num_frames: int, fps: int) -> None:
    with pytest.raises(ValueError, match=r"num_frames 2|fps 0"):
        FilmTiming.of(PromptsConfig(), num_frames, fps)
