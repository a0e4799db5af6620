"""The procedural world: what the pocket model is taught must be true and the same every time."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from storyreel.training.world import (
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
    Sighting,
    caption,
    clip_caption,
    describe,
    draw,
    draw_clip,
    figures_of,
    mask,
    sample_clip,
    sample_scene,
)

_PARTS = ("coat", "jacket", "shirt", "trousers", "skirt", " hat", "scarf")
_CHARACTER_WORDS = {
    "old man": "man|grand|men",
    "robot": "robot|android",
    "cat": "cat|kitty|kitties|kitten|tabby|tabbies",
    "rabbit": "rabbit|bunny|bunnies|hare",
    "dog": "dog|puppy|puppies|hound",
}
_PLACE_WORDS = {
    "park": "park|meadow",
    "beach": "beach|sea|shore",
    "forest": "forest|woods|trees",
    "city street": "street|city|town",
    "snowy mountain": "mountain|snow",
    "castle garden": "castle",
    "library": "library|bookshelves",
    "desert": "desert|dunes|cactus",
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


def _averages(picture: npt.NDArray[np.uint8], side: int = 8) -> npt.NDArray[np.float64]:
    """The picture as a soft model would paint it: means of squares of `side` pixels."""
    cells = picture.shape[0] // side
    tiles = picture.astype(np.float64).reshape(cells, side, cells, side, 3)
    return np.asarray(tiles.mean(axis=(1, 3)))


@pytest.mark.parametrize("time", TIMES)
def test_characters_are_told_apart_by_their_heads_even_when_soft(time: str) -> None:
    outfit = Outfit(top="red", bottom="blue", hat="green")
    heads = {
        name: _averages(draw(_scene(_figure(character=name, outfit=outfit), time_of_day=time)))
        for name in CHARACTERS
    }
    for one, other in itertools.combinations(CHARACTERS, 2):
        apart = np.abs(heads[one][4:9, 5:11] - heads[other][4:9, 5:11]).mean()
        assert apart > 9, (one, other)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("character", CHARACTERS)
def test_nobody_vanishes_at_night(character: str, place: str) -> None:
    scene = _scene(_figure(character=character, action="waving"), place=place, time_of_day="night")
    empty = draw(dataclasses.replace(scene, figures=())).astype(int)
    body = mask(scene)
    assert np.abs(draw(scene).astype(int) - empty)[body].mean() > 40


def test_every_action_is_recognised_from_one_still() -> None:
    stills = {a: draw(_scene(_figure(action=a, phase=0.3))).astype(int) for a in ACTIONS}
    for one, other in itertools.combinations(ACTIONS, 2):
        assert np.abs(stills[one] - stills[other]).mean() > 3.5, (one, other)


def test_samples_stay_inside_the_picture() -> None:
    rng = np.random.default_rng(11)
    scenes = [sample_scene(rng) for _ in range(400)]
    masks = [mask(scene, 64) for scene in scenes if scene.figures]
    cut_at_the_side = [body[:, [0, -1]].any() for body in masks]
    cut_much = [body[:, [0, -1]].sum() > 8 for body in masks]
    assert not any(body[0].any() for body in masks)
    assert np.mean([body[-1].any() for body in masks]) < 0.02
    assert np.mean(cut_at_the_side) < 0.15
    assert np.mean(cut_much) < 0.02


def test_the_mask_covers_what_the_figures_change_and_nothing_of_the_place() -> None:
    scene = _scene(_figure(), _figure(x=0.2, character="dog", scale=0.4))
    changed = np.abs(draw(scene).astype(int) - draw(_scene()).astype(int)).max(axis=-1) > 60
    body = mask(scene)
    assert body.dtype == np.bool_
    assert body.shape == (128, 128)
    assert (changed & ~body).mean() < 0.02
    assert changed[body].mean() > 0.6
    assert not mask(_scene()).any()


def _kinds(count: int) -> dict[str, list[Scene]]:
    rng = np.random.default_rng(12)
    scenes = [sample_scene(rng) for _ in range(count)]
    pairs = [scene for scene in scenes if len(scene.figures) == 2]
    return {
        "twice": [s for s in pairs if s.figures[0].character == s.figures[1].character],
        "two": [s for s in pairs if s.figures[0].character != s.figures[1].character],
        "mirror": [s for s in scenes if s.mirror],
        "portrait": [s for s in scenes if s.portrait is not None],
        "nobody": [s for s in scenes if not s.figures],
    }


def test_scenes_show_figures_in_company_as_often_as_planned() -> None:
    shares = {kind: len(scenes) / 1500 for kind, scenes in _kinds(1500).items()}
    planned = {"twice": 0.20, "two": 0.12, "mirror": 0.06, "portrait": 0.17, "nobody": 0.03}
    for kind, share in planned.items():
        assert abs(shares[kind] - share) < 0.035, kind


def test_two_figures_never_hide_each_others_clothes() -> None:
    kinds = _kinds(500)
    for scene in [*kinds["twice"], *kinds["two"]]:
        one, other = (mask(dataclasses.replace(scene, figures=(f,)), 64) for f in scene.figures)
        smaller = min(one.sum(), other.sum())
        assert (one & other).sum() < 0.25 * smaller, scene


def test_a_portrait_shows_the_same_figure_and_clothes_elsewhere_at_another_time() -> None:
    for scene in _kinds(400)["portrait"]:
        assert scene.portrait is not None
        (figure,), (painted,) = scene.figures, scene.portrait.figures
        assert (figure.character, figure.outfit) == (painted.character, painted.outfit)
        assert figure.action != painted.action
        assert scene.place != scene.portrait.place
        assert scene.time_of_day != scene.portrait.time_of_day


def _colour_around(picture: npt.NDArray[np.uint8], sighting: Sighting, colour: str) -> int:
    """How many pixels of `colour` are in the body of `sighting`."""
    rows, columns = np.mgrid[0:128, 0:128] / 128
    reach = 0.45 * sighting.size
    near = (np.abs(columns - sighting.x) < 0.5 * reach) & (np.abs(rows - sighting.y) < reach)
    alike = np.abs(picture.astype(int) - np.array(PALETTE[colour])).max(axis=-1) < 20
    return int((near & alike).sum())


@pytest.mark.parametrize("kind", ["twice", "two", "mirror", "portrait"])
def test_the_truth_tells_where_the_clothes_are_seen(kind: str) -> None:
    checked = 0
    for scene in _kinds(500)[kind]:
        seen = figures_of(scene)
        assert len(seen) == 2
        assert seen[0].where == "figure"
        assert seen[1].where == (kind if kind in ("mirror", "portrait") else "figure")
        for sighting in seen:
            lit_by = scene.portrait if sighting.where == "portrait" else scene
            assert lit_by is not None
            if lit_by.time_of_day == "day" and sighting.action not in ("sleeping", "eating"):
                least = 1500 * sighting.size**2 * 0.09
                assert _colour_around(draw(scene), sighting, sighting.outfit.top) > least, scene
                checked += 1
    assert checked > 3


@pytest.mark.parametrize("action", ACTIONS)
def test_the_truth_gives_the_middle_of_the_body_as_the_camera_sees_it(action: str) -> None:
    figure = _figure(action=action, x=0.45, scale=0.5)
    for camera in (Camera(), Camera(pan_x=0.04, zoom=1.06)):
        scene = _scene(figure, camera=camera)
        (sighting,) = figures_of(scene)
        rows, columns = np.nonzero(mask(scene))
        assert abs(sighting.x - columns.mean() / 128) < 0.11
        assert abs(sighting.y - rows.mean() / 128) < 0.11
        assert abs(sighting.size - 0.5 * camera.zoom) < 1e-9


def test_a_portrait_is_painted_in_the_light_of_its_own_time() -> None:
    inside = _scene(_figure(), place="beach", time_of_day="day")
    scene = _scene(_figure(x=0.75, scale=0.6), time_of_day="night")
    by_day = draw(dataclasses.replace(scene, portrait=inside)).astype(int)
    by_night = draw(
        dataclasses.replace(scene, portrait=dataclasses.replace(inside, time_of_day="night"))
    ).astype(int)
    changed = np.abs(by_day - by_night).max(axis=-1) > 10
    assert changed[:, 70:].sum() == 0
    assert 0.2 < changed.mean() < 0.42


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
            assert way > 0.1 if first.action in ("walking", "running") else way == 0
            seen.add(first.action)
    assert {"walking", "running", "sitting"} <= seen


def test_clothes_and_characters_keep_through_every_clip() -> None:
    for clip in _clips(40):
        worn = {tuple((f.character, f.outfit) for f in scene.figures) for scene in clip.scenes}
        assert len(worn) == 1


def test_clips_both_stay_in_a_place_and_lead_to_another() -> None:
    clips = _clips(60)
    leading = [clip for clip in clips if clip.mixes[-1] == 1.0]
    assert 22 < len(leading) < 44
    for clip in leading:
        first, last = clip.scenes[0], clip.scenes[-1]
        assert first.place != last.place
        assert first.figures[0].action != last.figures[0].action
        assert [f.character for f in first.figures] == [f.character for f in last.figures]
    assert any(len(clip.scenes[0].figures) == 2 for clip in leading)
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


def test_twins_wear_the_same_and_are_counted_as_two() -> None:
    rng = np.random.default_rng(2)
    scenes = [sample_scene(rng) for _ in range(600)]
    counts = [describe(scene)["count"] for scene in scenes]
    twice = [
        scene.figures
        for scene in scenes
        if len(scene.figures) == 2 and scene.figures[0].character == scene.figures[1].character
    ]
    assert all(left.outfit == right.outfit for left, right in twice)
    assert 0.45 < np.mean([left.action == right.action for left, right in twice]) < 0.75
    assert counts.count(2) > len(twice)
    assert counts.count(0) > 0


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("twice", "twin|two|double"),
        ("mirror", "mirror|looking glass"),
        ("portrait", "picture|painting|portrait"),
    ],
)
def test_captions_mostly_name_who_is_there_twice(kind: str, words: str) -> None:
    rng = np.random.default_rng(4)
    scenes = (_kinds(1000)[kind] * 4)[:200]
    named = [_says(caption(scene, rng), words) for scene in scenes]
    assert 0.76 < np.mean(named) < 0.94


def test_captions_of_one_figure_alone_name_no_other() -> None:
    rng = np.random.default_rng(5)
    for _ in range(300):
        text = caption(_scene(_figure(character=str(rng.choice(CHARACTERS)))), rng)
        assert not _says(text, "twin|two |mirror|picture|painting|portrait"), text


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
    with pytest.raises(ValueError, match="character: 'dragon' is not one of girl"):
        draw(_scene(_figure(character="dragon")))
    with pytest.raises(ValueError, match="outfit: 'pink' is not one of red"):
        draw(_scene(_figure(outfit=Outfit(top="red", bottom="pink", hat="red"))))
    with pytest.raises(ValueError, match="num_frames: 1"):
        sample_clip(np.random.default_rng(0), 1)
