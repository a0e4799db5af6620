"""The procedural world: what the pocket model is taught must be true and the same every time."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from training.world import (
    ACTIONS,
    CHARACTERS,
    PALETTE,
    PLACES,
    TIMES,
    Camera,
    Clip,
    Figure,
    Outfit,
    Scene,
    caption,
    clip_caption,
    describe,
    draw,
    draw_clip,
    sample_clip,
    sample_scene,
)

_PARTS = ("coat", "jacket", "shirt", "trousers", "skirt", " hat", "scarf")
_CHARACTER_WORDS = {"old man": "man|grandfather", "cat": "cat|kitty", "rabbit": "rabbit|bunny"}
_PLACE_WORDS = {
    "park": "park|meadow",
    "beach": "beach|sea|shore",
    "forest": "forest|woods|trees",
    "city street": "street|city|town",
    "snowy mountain": "mountain|snow",
    "castle garden": "castle",
}


def _figure(**changes: Any) -> Figure:
    figure = Figure(
        character="cat",
        outfit=Outfit(top="red", bottom="blue", hat="green"),
        action="walking",
        phase=0.1,
        x=0.5,
        scale=0.62,
        facing=1,
    )
    return dataclasses.replace(figure, **changes)


def _scene(*figures: Figure, **changes: Any) -> Scene:
    scene = Scene(place="park", time_of_day="day", layout_seed=3, figures=figures, camera=Camera())
    return dataclasses.replace(scene, **changes)


def _share_near(picture: npt.NDArray[np.uint8], colour: str) -> float:
    far = np.abs(picture.astype(int) - np.array(PALETTE[colour])).max(axis=-1)
    return float((far < 16).mean())


def _says(text: str, words: str) -> bool:
    return any(word in text for word in words.split("|"))


def _clips(count: int) -> list[Clip]:
    return [sample_clip(np.random.default_rng(seed)) for seed in range(count)]


def test_the_same_seed_gives_the_same_picture_clip_and_caption() -> None:
    first, second = np.random.default_rng(7), np.random.default_rng(7)
    for _ in range(5):
        one, other = sample_scene(first), sample_scene(second)
        assert one == other
        assert caption(one, first) == caption(other, second)
        assert np.array_equal(draw(one), draw(other))
    assert np.array_equal(draw_clip(sample_clip(first)), draw_clip(sample_clip(second)))


def test_different_seeds_give_different_pictures() -> None:
    pictures = [draw(sample_scene(np.random.default_rng(seed)), 32) for seed in range(12)]
    assert len({picture.tobytes() for picture in pictures}) == 12


@pytest.mark.parametrize("character", CHARACTERS)
@pytest.mark.parametrize("action", ACTIONS)
def test_every_character_can_do_every_action(character: str, action: str) -> None:
    figure = _figure(character=character, action=action)
    picture = draw(_scene(figure))
    assert picture.shape == (128, 128, 3)
    assert picture.dtype == np.uint8
    assert np.abs(picture.astype(int) - draw(_scene())).mean() > 4


@pytest.mark.parametrize("place", PLACES)
def test_every_place_looks_different_at_every_time_and_from_every_other(place: str) -> None:
    here = [draw(_scene(place=place, time_of_day=time), 64).astype(int) for time in TIMES]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(here[one] - here[other]).mean() > 8
    for other_place in set(PLACES) - {place}:
        elsewhere = draw(_scene(place=other_place), 64).astype(int)
        assert np.abs(here[0] - elsewhere).mean() > 15


@pytest.mark.parametrize("colour", tuple(PALETTE))
@pytest.mark.parametrize("character", CHARACTERS)
def test_clothes_show_their_colour(character: str, colour: str) -> None:
    other = "purple" if colour != "purple" else "green"
    plain = _figure(character=character, outfit=Outfit(top=other, bottom=other, hat=other))
    for part, least in (("top", 0.015), ("bottom", 0.010), ("hat", 0.006)):
        worn = dataclasses.replace(
            plain, outfit=dataclasses.replace(plain.outfit, **{part: colour})
        )
        gained = _share_near(draw(_scene(worn)), colour) - _share_near(draw(_scene(plain)), colour)
        assert gained > least, part


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_moves_between_all_neighbouring_frames(action: str) -> None:
    frames = [draw(_scene(_figure(action=action, phase=k / 16))).astype(int) for k in range(16)]
    steps = [np.abs(b - a).mean() for a, b in itertools.pairwise(frames)]
    assert np.median(steps) > 0.8
    assert min(steps) > 0.2


def test_walkers_and_runners_cross_the_picture_the_way_they_face() -> None:
    seen = set()
    for clip in _clips(120):
        first, last = clip.scenes[0].figures[0], clip.scenes[-1].figures[0]
        if len(clip.scenes[0].figures) == 1 and clip.mixes[-1] == 0.0:
            way = (last.x - first.x) * first.facing
            assert way > 0.15 if first.action in ("walking", "running") else way == 0
            seen.add(first.action)
    assert {"walking", "running", "sitting"} <= seen


def test_clothes_and_characters_keep_through_every_clip() -> None:
    for clip in _clips(40):
        worn = {tuple((f.character, f.outfit) for f in scene.figures) for scene in clip.scenes}
        assert len(worn) == 1


def test_clips_both_stay_in_a_place_and_lead_to_another() -> None:
    clips = _clips(60)
    leading = [clip for clip in clips if clip.mixes[-1] == 1.0]
    assert 15 < len(leading) < 45
    for clip in leading:
        first, last = clip.scenes[0], clip.scenes[-1]
        assert first.place != last.place
        assert first.figures[0].action != last.figures[0].action
    for clip in clips:
        assert clip.mixes[-1] in (0.0, 1.0)


def test_a_clip_starts_and_ends_on_the_pictures_of_its_end_scenes() -> None:
    for clip in _clips(12):
        frames = draw_clip(clip, 64)
        assert frames.shape == (16, 64, 64, 3)
        assert np.array_equal(frames[0], draw(clip.scenes[0], 64))
        assert np.array_equal(frames[-1], draw(clip.scenes[-1], 64))


def test_no_clip_stands_still() -> None:
    for clip in _clips(30):
        frames = draw_clip(clip, 64).astype(int)
        steps = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
        assert np.median(steps) > 0.8


def test_captions_name_the_character_and_the_place() -> None:
    rng = np.random.default_rng(0)
    for _ in range(400):
        scene = sample_scene(rng)
        text = caption(scene, rng)
        assert _says(text, _PLACE_WORDS.get(scene.place, scene.place)), text
        for figure in scene.figures:
            assert _says(text, _CHARACTER_WORDS.get(figure.character, figure.character)), text


def test_captions_leave_clothes_open_in_about_two_of_three_and_else_state_true_ones() -> None:
    rng = np.random.default_rng(1)
    stated = 0
    for _ in range(600):
        scene = _scene(_figure(character=str(rng.choice(CHARACTERS))))
        text = caption(scene, rng)
        named = {colour for colour in PALETTE if f"{colour} " in text}
        assert named <= {"red", "blue", "green"}
        stated += any(part in text for part in _PARTS)
    assert 0.28 < stated / 600 < 0.42


def test_the_same_figure_twice_wears_the_same_and_is_described_as_two() -> None:
    rng = np.random.default_rng(2)
    scenes = [sample_scene(rng) for _ in range(600)]
    counts = [describe(scene)["count"] for scene in scenes]
    twice = [
        scene.figures
        for scene in scenes
        if len(scene.figures) == 2 and scene.figures[0].character == scene.figures[1].character
    ]
    assert all(left.outfit == right.outfit for left, right in twice)
    assert 0.28 < len(twice) / 600 < 0.42
    assert 0.02 < counts.count(0) / 600 < 0.11


def test_description_gives_table_indices_and_minus_one_for_nobody() -> None:
    described = describe(_scene(_figure(action="reading"), place="kitchen", time_of_day="night"))
    assert CHARACTERS[described["character"]] == "cat"
    assert ACTIONS[described["action"]] == "reading"
    assert PLACES[described["place"]] == "kitchen"
    assert TIMES[described["time"]] == "night"
    assert [tuple(PALETTE)[described[part]] for part in ("top", "bottom", "hat")] == [
        "red", "blue", "green",
    ]  # fmt: skip
    nobody = describe(_scene())
    assert {nobody[name] for name in ("character", "action", "top", "bottom", "hat")} == {-1}
    assert nobody["count"] == 0


def test_the_caption_of_a_clip_between_places_names_both() -> None:
    rng = np.random.default_rng(3)
    for clip in _clips(60):
        text = clip_caption(clip, rng)
        for scene in (clip.scenes[0], clip.scenes[-1]):
            assert _says(text, _PLACE_WORDS.get(scene.place, scene.place)), text


def test_unknown_names_are_refused_at_the_door() -> None:
    with pytest.raises(ValueError, match="place: 'moon' is not one of park"):
        draw(_scene(place="moon"))
    with pytest.raises(ValueError, match="action: 'flying' is not one of walking"):
        draw(_scene(_figure(action="flying")))
    with pytest.raises(ValueError, match="time_of_day: 'noon' is not one of day"):
        draw(_scene(time_of_day="noon"))
    with pytest.raises(ValueError, match="character: 'dog' is not one of girl"):
        draw(_scene(_figure(character="dog")))
    with pytest.raises(ValueError, match="outfit: 'pink' is not one of red"):
        draw(_scene(_figure(outfit=Outfit(top="red", bottom="pink", hat="red"))))
    with pytest.raises(ValueError, match="num_frames: 1"):
        sample_clip(np.random.default_rng(0), 1)
