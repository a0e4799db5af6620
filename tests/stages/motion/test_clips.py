"""Long shots, frame rates, colours, and clips that no viewer would accept."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from storyreel.stages.motion.ends import match_ends
from storyreel.stages.motion.flaws import find_flaw
from storyreel.stages.motion.frames import (
    Pixels,
    dissolve,
    endpoint_jump,
    resampled,
    to_image,
    to_pixels,
)
from storyreel.stages.motion.renderer import Transition
from storyreel.stages.motion.renderers.baselines import Dissolve
from storyreel.stages.motion.stage import MotionConfig, MotionStage, MotionUnit, build_renderer
from storyreel.stages.motion.windows import WindowedRenderer, boundaries
from storyreel.stages.output.records import Clip
from storyreel.stages.video import read_clip
from tests.stages.motion.test_motion_stage import picture, transition, unit, with_shot

__all__ = ["unit"]


class Short:
    """A renderer of dissolves of at most `max_frames` frames, and what it was asked for."""

    def __init__(self, max_frames: int) -> None:
        self.max_frames = max_frames
        self.asked: list[list[Transition]] = []

    def smaller(self) -> "Short":
        return self

    def __call__(self, transitions: Sequence[Transition]) -> list[Tensor]:
        assert all(one.num_frames <= self.max_frames for one in transitions)
        self.asked.append(list(transitions))
        return Dissolve()(transitions)


@pytest.mark.parametrize("num_frames", range(8, 65))
def test_windows_share_their_ends_and_none_is_longer_than_the_model_knows(num_frames: int) -> None:
    ends = boundaries(num_frames, 16)
    lengths = [after - before + 1 for before, after in pairwise(ends)]
    assert (ends[0], ends[-1]) == (0, num_frames - 1)
    assert max(lengths) <= 16
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("num_frames", [17, 33, 64])
def test_a_long_shot_goes_its_whole_way_as_a_short_one_does(num_frames: int) -> None:
    way = replace(transition(), num_frames=num_frames)
    (frames,) = WindowedRenderer(Short(16), 1)([way])
    (whole,) = Dissolve()([way])
    assert frames.shape == whole.shape
    # Windows end at whole frames, so that one may be shorter than its neighbour by one.
    step = (whole[1:] - whole[:-1]).abs().mean()
    assert (frames - whole).abs().mean() < step
    steps = (frames[1:] - frames[:-1]).abs().mean(dim=(1, 2, 3))
    assert steps.max() <= 1.5 * steps.median()


def test_a_shot_that_the_model_knows_is_one_clip() -> None:
    short = Short(16)
    WindowedRenderer(short, 4)([transition()])
    assert [len(call) for call in short.asked] == [1]


def test_each_window_has_noise_of_its_own_and_windows_fill_calls() -> None:
    short = Short(16)
    WindowedRenderer(short, 2)([replace(transition(), num_frames=61)])
    assert [len(call) for call in short.asked] == [1, 2, 2]
    assert len({one.seed for call in short.asked for one in call}) == 5


def test_windows_in_one_call_are_those_of_one_call_each(config: MotionConfig) -> None:
    renderer = build_renderer(config)
    way = replace(transition(), num_frames=47)
    (together,) = WindowedRenderer(renderer, 4)([way])
    (apart,) = WindowedRenderer(renderer, 1)([way])
    assert together.shape[0] == 47
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-5)


def test_a_clip_of_other_colours_follows_its_keyframes() -> None:
    first, last = to_image(picture(1)), to_image(picture(2))
    share = torch.linspace(0, 1, 5)[:, None, None, None]
    true = torch.lerp(first[None], last[None], share)
    tint = torch.tensor([0.8, 1.1, 1.0])[:, None, None]
    matched = match_ends(true * tint + 0.1, first, last)
    torch.testing.assert_close(matched[[0, -1]], true[[0, -1]], atol=1e-5, rtol=1e-5)
    assert (matched - true).abs().mean() < 0.2 * (true * tint + 0.1 - true).abs().mean()


def test_a_soft_autoencoder_does_not_show_at_the_ends() -> None:
    first, last = to_image(picture(1)), to_image(picture(2))
    share = torch.linspace(0, 1, 16)[:, None, None, None]
    true = torch.lerp(first[None], last[None], share)
    detail = 0.1 * torch.randn(3, *first.shape[1:], generator=torch.Generator().manual_seed(0))
    sharp_ends = torch.cat([first[None] + detail, true[1:-1], last[None] + detail])
    jumps = [
        endpoint_jump(to_pixels(clip))
        for clip in (sharp_ends, match_ends(true, sharp_ends[0], sharp_ends[-1]))
    ]
    assert jumps[0] > 2
    assert jumps[1] < 1.5


def test_a_plain_frame_is_not_blown_up_to_noise() -> None:
    plain = torch.full((9, 3, 32, 32), 0.2) + 1e-5 * torch.randn(9, 3, 32, 32)
    matched = match_ends(plain, to_image(picture(1)), to_image(picture(2)))
    assert matched[4].std(dim=(1, 2)).max() < 1e-3


def test_more_frames_at_even_times_keep_the_ends_and_the_pace() -> None:
    clip = dissolve(picture(1), picture(2), 9)
    more = resampled(clip, 25)
    assert np.array_equal(more[[0, -1]], clip[[0, -1]])
    assert np.abs(more[::3].astype(int) - clip).max() <= 1
    assert resampled(clip, 9) is clip


def moving(num_frames: int = 8) -> Pixels:
    return dissolve(picture(1), picture(2), num_frames)


def blacked(clip: Pixels) -> Pixels:
    clip[3:5] = 0
    return clip


def frozen(clip: Pixels) -> Pixels:
    clip[1:-1] = clip[1]
    return clip


def torn(clip: Pixels) -> Pixels:
    rng = np.random.default_rng(0)
    clip[:4], clip[4:] = clip[0], clip[-1]
    noise = rng.integers(-1, 2, clip.shape)
    return np.clip(clip + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (blacked, "2 of 8 frames are black, the first of them 3"),
        (frozen, "5 of 5 steps between frames stand still"),
        (torn, "the picture jumps between frames 3 and 4"),
    ],
)
def test_a_clip_that_no_viewer_would_accept_is_found(
    damage: Callable[[Pixels], Pixels], told: str
) -> None:
    assert find_flaw(damage(moving())) == told


def test_what_must_stand_still_or_be_dark_has_no_flaw() -> None:
    still = np.stack([picture(1)] * 8)
    assert find_flaw(still) == ""
    assert find_flaw((still * 0.01).astype(np.uint8)) == ""
    assert find_flaw(moving()) == ""
    assert find_flaw(moving(4)) == ""


class Faulty:
    """A renderer that gives black frames, or none that are finite, for some of the seeds."""

    max_frames = 100

    def __init__(self, damage: Callable[[Tensor], Tensor], seeds: set[int] | None) -> None:
        self._damage = damage
        self._seeds = seeds

    def smaller(self) -> "Faulty":
        return self

    def __call__(self, transitions: Sequence[Transition]) -> list[Tensor]:
        (one,) = transitions
        (frames,) = Dissolve()(transitions)
        if self._seeds is None or one.seed in self._seeds:
            frames[1:-1] = self._damage(frames[1:-1])
        return [frames]


@pytest.fixture
def stage_of(
    tmp_path: Path, config: MotionConfig
) -> Callable[[Callable[[Tensor], Tensor], set[int] | None], MotionStage]:
    stage = MotionStage(output_url=str(tmp_path), config=config)

    def of(damage: Callable[[Tensor], Tensor], seeds: set[int] | None) -> MotionStage:
        stage._renderer = Faulty(damage, seeds)
        return stage

    return of


MakeStage = Callable[[Callable[[Tensor], Tensor], set[int] | None], MotionStage]


def as_black(frames: Tensor) -> Tensor:
    return torch.full_like(frames, -1.0)


def as_nan(frames: Tensor) -> Tensor:
    return torch.full_like(frames, torch.nan)


def shown(tmp_path: Path, clip: Clip) -> Pixels:
    return np.stack(list(read_clip(tmp_path / clip.path)))


@pytest.mark.parametrize("damage", [as_black, as_nan])
def test_a_flawed_clip_is_rendered_once_more_with_another_seed(
    tmp_path: Path,
    unit: MotionUnit,
    stage_of: MakeStage,
    damage: Callable[[Tensor], Tensor],
) -> None:
    (clip,) = stage_of(damage, {unit.shot.seed})(unit)
    assert clip.flaw == ""
    assert clip.seed != unit.shot.seed
    assert find_flaw(shown(tmp_path, clip)) == ""


def test_a_clip_that_stays_flawed_is_shown_and_told(
    tmp_path: Path, unit: MotionUnit, stage_of: MakeStage
) -> None:
    (clip,) = stage_of(as_black, None)(unit)
    assert clip.flaw == "4 of 6 frames are black, the first of them 1"
    assert clip.seed == unit.shot.seed
    assert find_flaw(shown(tmp_path, clip)) == clip.flaw


def test_a_film_of_more_frames_a_second_gets_its_frames_at_the_models_rate(
    tmp_path: Path, config: MotionConfig, unit: MotionUnit
) -> None:
    slow = config.model_copy(update={"fps": 8})
    stage = MotionStage(output_url=str(tmp_path), config=slow)
    short = Short(100)
    stage._renderer = short
    (clip,) = stage(replace(with_shot(unit, num_frames=22), fps=24))
    assert short.asked[0][0].num_frames == 8
    frames = shown(tmp_path, clip)
    assert len(frames) == 22
    assert np.array_equal(frames[[0, -1]], np.stack([picture(1), picture(2)]))
    assert np.abs(frames.astype(int) - dissolve(picture(1), picture(2), 22)).max() <= 2


def test_a_long_shot_of_the_stage_has_the_keyframes_at_its_ends(
    tmp_path: Path, config: MotionConfig, unit: MotionUnit
) -> None:
    quick = config.model_copy(update={"num_inference_steps": 1, "guidance_scale": 1.0})
    (clip,) = MotionStage(output_url=str(tmp_path), config=quick)(with_shot(unit, num_frames=30))
    frames = shown(tmp_path, clip)
    assert len(frames) == 30
    assert np.array_equal(frames[[0, -1]], np.stack([picture(1), picture(2)]))
