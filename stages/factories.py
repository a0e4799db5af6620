"""Factories that construct each stage on a worker.

A stage's module is imported when the stage is constructed: whoever only sends a factory to a worker
needs neither torch nor a second of its import.
"""

# ruff: noqa: PLC0415

from collections.abc import Callable
from typing import Any

from storyreel.stages.films.config import FilmsConfig
from storyreel.stages.keyframes.config import KeyframesConfig
from storyreel.stages.models.config import ModelConfig
from storyreel.stages.motion.config import MotionConfig
from storyreel.stages.prompts.config import PromptsConfig


def make_prompts(
    *, config: PromptsConfig, model: ModelConfig, num_frames: int, fps: int
) -> Callable[[Any], tuple[Any, ...]]:
    """The prompts stage; its arguments are those of `PromptsStage`."""
    from storyreel.stages.prompts.stage import PromptsStage

    return PromptsStage(config=config, model=model, num_frames=num_frames, fps=fps)


def make_keyframes(*, output_url: str, config: KeyframesConfig) -> Callable[[Any], tuple[Any, ...]]:
    """The keyframes stage, its model loaded."""
    from storyreel.stages.keyframes.stage import KeyframesStage

    return KeyframesStage(output_url=output_url, config=config)


def make_motion(*, output_url: str, config: MotionConfig) -> Callable[[Any], tuple[Any, ...]]:
    """The motion stage, its models loaded."""
    from storyreel.stages.motion.stage import MotionStage

    return MotionStage(output_url=output_url, config=config)


def make_films(*, output_url: str, config: FilmsConfig) -> Callable[[Any], tuple[Any, ...]]:
    """The films stage."""
    from storyreel.stages.films.stage import FilmsStage

    return FilmsStage(output_url=output_url, config=config)
