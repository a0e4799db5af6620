"""Held-out stories, twins and clips: what experiments may rely on."""

import numpy as np
import pytest

from storyreel.stages.seeds import derive_seed
from storyreel.training import world
from storyreel.training.stories import (
    CLOTHING,
    TWINS,
    HeldOutStory,
    ends_where_it_began,
    held_out_clip,
    held_out_rng,
    held_out_story,
    held_out_twins,
)

NUM_STORIES = 24


@pytest.fixture(scope="module")
def stories() -> list[HeldOutStory]:
    return [held_out_story(index, num_panels=4) for index in range(NUM_STORIES)]


def test_prompts_name_the_character_and_never_the_clothes(stories: list[HeldOutStory]) -> None:
    for story in stories:
        for panel in story.panels:
            assert CLOTHING.search(panel.prompt) is None, panel.prompt
            assert all(name in panel.prompt for name in story.characters)


def test_a_story_keeps_its_characters_and_clothes(stories: list[HeldOutStory]) -> None:
    for story in stories:
        worn = [[(f.character, f.outfit) for f in panel.scene.figures] for panel in story.panels]
        assert all(one == worn[0] for one in worn)
        assert len(set(story.characters)) == len(story.characters)


def test_nobody_is_cut_off_though_the_action_is_another(stories: list[HeldOutStory]) -> None:
    bodies = [world.mask(panel.scene, 64) for story in stories for panel in story.panels]
    cut_much = [body[:, [0, -1]].sum() > 8 or body[[0, -1]].any() for body in bodies]
    assert np.mean(cut_much) < 0.03


def test_no_two_panels_of_a_story_share_action_or_place(stories: list[HeldOutStory]) -> None:
    for story in stories:
        assert len({panel.scene.figures[0].action for panel in story.panels}) == 4
        assert len({panel.scene.place for panel in story.panels}) == 4
        assert len({panel.prompt for panel in story.panels}) == 4


def test_stories_have_many_characters_and_some_have_two(stories: list[HeldOutStory]) -> None:
    pairs = sum(len(story.characters) == 2 for story in stories)
    assert 0 < pairs < NUM_STORIES / 2
    assert len({story.characters[0] for story in stories}) > 4


def test_another_seed_is_the_same_story_from_other_noise() -> None:
    one, other = (held_out_story(3, num_panels=4, seed=seed) for seed in (0, 1))
    assert [p.prompt for p in one.panels] == [p.prompt for p in other.panels]
    assert [p.scene for p in one.panels] == [p.scene for p in other.panels]
    seeds = {panel.seed for story in (one, other) for panel in story.panels}
    assert len(seeds) == 8
    assert held_out_story(3, num_panels=4) == one


def test_too_long_a_story_is_refused() -> None:
    with pytest.raises(ValueError, match="num_panels: 40"):
        held_out_story(0, num_panels=40)


def test_nothing_held_out_has_a_seed_of_training() -> None:
    """Training draws picture i from (seed, i): two words of 32 bits, the first of them small."""
    parts: list[tuple[str | int, ...]] = [
        *(("story", index, panels) for index in range(200) for panels in range(2, 9)),
        *(("twins", index) for index in range(500)),
        *(("clip", kind, index) for kind in ("inside", "between") for index in range(100)),
        *(("picture", index) for index in range(1000)),
    ]
    for part in parts:
        seed = derive_seed("held out", *part)
        assert seed & 0xFFFFFFFF > 1000
    drawn = held_out_rng("story", 0, 4).random(4)
    for index in range(200):
        assert not np.allclose(np.random.default_rng((0, index)).random(4), drawn)


def test_twins_are_asked_for_and_wear_the_same() -> None:
    for index in range(20):
        panel = held_out_twins(index)
        first, second = panel.scene.figures
        assert (first.character, first.outfit) == (second.character, second.outfit)
        assert TWINS.search(panel.prompt)
        assert CLOTHING.search(panel.prompt) is None


@pytest.mark.parametrize("kind", ["inside", "between"])
def test_clips_are_of_their_kind_and_lead_somewhere(kind: str) -> None:
    for index in range(8):
        one = held_out_clip(index, kind, num_frames=6)
        first, last = one.clip.scenes[0], one.clip.scenes[-1]
        assert len(one.clip.scenes) == 6
        assert (first.place == last.place) == (kind == "inside")
        assert not ends_where_it_began(one.clip)


def test_a_motion_that_ends_where_it_began_is_recognised() -> None:
    rng = np.random.default_rng(0)
    left_out = kept = 0
    for _ in range(300):
        clip = world.sample_clip(rng, 4)
        ends = [[(f.phase, f.x) for f in s.figures] for s in (clip.scenes[0], clip.scenes[-1])]
        if ends_where_it_began(clip):
            left_out += 1
            assert clip.scenes[0].place == clip.scenes[-1].place
            for (phase, x), (end_phase, end_x) in zip(*ends, strict=True):
                turn = abs(phase - end_phase)
                assert min(turn, 1 - turn) < 0.1
                assert abs(x - end_x) < 0.05
        else:
            kept += 1
    assert left_out > 10
    assert kept > 100
