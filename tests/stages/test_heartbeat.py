"""Units say how far they are, and do with less memory when they must."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from storyreel.stages import heartbeat
from storyreel.stages.films.config import FilmsConfig, Preset
from storyreel.stages.films.encoding import Label, encode_film
from storyreel.stages.heartbeat import Pulse, followed
from storyreel.stages.keyframes.stage import KeyframesConfig, KeyframesStage, KeyframesUnit
from storyreel.stages.models.config import ModelConfig
from storyreel.stages.motion.stage import MotionConfig, MotionStage, MotionUnit
from storyreel.stages.output.patience import patiently
from storyreel.stages.output.records import Keyframe, Shot, ShotKind
from storyreel.stages.video import read_clip
from tests.stages.keyframes.builders import panel_of
from tests.stages.tiny import save_tiny_family

PANELS = tuple(panel_of(index) for index in range(6))
STORY = KeyframesUnit(story_id="the-kite", panels=PANELS, reference_images=())
SHOT = Shot(
    story_id="the-kite",
    shot_index=0,
    kind=ShotKind.MOTION,
    text="a girl runs",
    negative_prompt="blurry",
    seed=7,
    num_frames=6,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    return ModelConfig(path=str(save_tiny_family(tmp_path_factory.mktemp("models") / "tiny")))


def keyframes_stage(model: ModelConfig, output: Path, **consistency: Any) -> KeyframesStage:
    config = KeyframesConfig.model_validate(
        {
            "model": model,
            "width": 32,
            "height": 32,
            "num_inference_steps": 3,
            "consistency": consistency,
        }
    )
    return KeyframesStage(output_url=str(output), config=config)


def motion_stage(model: ModelConfig, output: Path) -> MotionStage:
    config = MotionConfig(model=model, num_frames=6, num_inference_steps=3, guidance_scale=3.0)
    return MotionStage(output_url=str(output), config=config)


def picture_of(output: Path, keyframe: Keyframe) -> np.ndarray:
    with Image.open(output / keyframe.path) as image:
        return np.asarray(image).astype(int)


class LargestCall:
    """Watches the batches of a module."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.rows = 0
        module.register_forward_pre_hook(self._see, with_kwargs=True)

    def _see(self, _module: Any, args: tuple[Any, ...], _kwargs: Any) -> None:
        self.rows = max(self.rows, len(args[0]))


def test_every_step_of_the_models_is_a_sign_of_life(model: ModelConfig, tmp_path: Path) -> None:
    keyframes, pulse = keyframes_stage(model, tmp_path), Pulse()
    with followed(pulse):
        first, last, *_ = keyframes(STORY)
    assert pulse.steps >= 3
    motion, pulse = motion_stage(model, tmp_path), Pulse()
    with followed(pulse):
        motion(MotionUnit(shot=SHOT, first=first, last=last, fps=8))
    assert pulse.steps >= 3


def test_every_frame_of_a_film_is_a_sign_of_life(tmp_path: Path) -> None:
    frames = [np.full((32, 32, 3), level, np.uint8) for level in range(5)]
    config = FilmsConfig.model_validate({"width": 32, "height": 32, "preset": Preset.ULTRAFAST})
    pulse = Pulse()
    with followed(pulse):
        label = Label(title="", comment="")
        encode_film(tmp_path / "film.mp4", frames, cues=(), label=label, config=config)
    assert pulse.steps == 5


def test_signs_of_life_count_only_where_they_are_followed() -> None:
    pulse = Pulse()
    with followed(pulse):
        heartbeat.beat()
    heartbeat.beat()
    assert pulse == Pulse(steps=1)


def test_waiting_for_storage_is_no_hang_and_no_time_of_the_unit() -> None:
    answers: Iterator[bool] = iter([False, True])

    def call() -> str:
        if next(answers):
            return "served"
        raise TimeoutError("the store is away")

    pulse = Pulse()
    with followed(pulse):
        assert patiently("store", call) == "served"
    assert pulse.steps == 1
    assert 0.05 < pulse.waited_s < 5


@pytest.mark.parametrize("coverage", ["window", "star", "none"])
def test_keyframes_with_less_memory_look_the_same_and_say_so(
    model: ModelConfig, tmp_path: Path, coverage: str
) -> None:
    whole = keyframes_stage(model, tmp_path / "whole", coverage=coverage, num_references=2)
    smaller = whole.smaller()
    usual = whole(STORY)
    before = [picture_of(tmp_path / "whole", keyframe) for keyframe in usual]
    largest = LargestCall(whole._pipeline.unet)
    degraded = smaller(STORY)
    halved = {"window": len(PANELS), "star": 2, "none": 1}[coverage]
    assert largest.rows == halved
    assert not any(keyframe.degraded for keyframe in usual)
    assert all(keyframe.degraded for keyframe in degraded)
    for keyframe, pixels in zip(degraded, before, strict=True):
        assert abs(picture_of(tmp_path / "whole", keyframe) - pixels).max() <= 1
    assert whole(STORY) == usual


def test_a_clip_with_less_memory_looks_the_same_and_says_so(
    model: ModelConfig, tmp_path: Path
) -> None:
    first, last, *_ = keyframes_stage(model, tmp_path)(STORY)
    unit = MotionUnit(shot=SHOT, first=first, last=last, fps=8)
    stage = motion_stage(model, tmp_path)
    (usual,) = stage(unit)
    before = np.stack(list(read_clip(tmp_path / usual.path))).astype(int)
    largest = LargestCall(stage._renderer._renderer._sampler._pipeline.unet)  # type: ignore[attr-defined]
    (degraded,) = stage.smaller()(unit)
    assert largest.rows == 1
    assert (usual.degraded, degraded.degraded) == (False, True)
    after = np.stack(list(read_clip(tmp_path / degraded.path))).astype(int)
    assert abs(after - before).max() <= 1
    assert stage(unit) == (usual,)
