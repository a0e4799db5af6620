"""Functions that construct the stages on a worker.

A stage's module is imported when the stage is constructed, so that the driver, which only sends a
factory to a worker, does not import torch.
"""

# ruff: noqa: PLC0415

from storyreel.stages.films.config import FilmsConfig
from storyreel.stages.input.config import InputConfig
from storyreel.stages.keyframes.config import KeyframesConfig
from storyreel.stages.models.config import ModelConfig
from storyreel.stages.motion.config import MotionConfig
from storyreel.stages.prompts.config import PromptsConfig
from storyreel.stages.scoring.config import ScoringConfig
from storyreel.stages.units import Stage


def make_prompts(
    *,
    config: PromptsConfig,
    model: ModelConfig,
    films: FilmsConfig,
    num_frames: int,
    limits: InputConfig,
) -> Stage:
    """The prompts stage, with its chat model loaded if one is configured."""
    from storyreel.stages.prompts.stage import PromptsStage

    return PromptsStage(
        config=config,
        model=model,
        num_frames=num_frames,
        fps=films.fps,
        still_s=films.still_s,
        limits=limits,
    )


def make_keyframes(*, output_url: str, config: KeyframesConfig) -> Stage:
    """The keyframes stage, its model loaded."""
    from storyreel.stages.keyframes.stage import KeyframesStage

    return KeyframesStage(output_url=output_url, config=config)


def make_motion(*, output_url: str, config: MotionConfig) -> Stage:
    """The motion stage, its models loaded."""
    from storyreel.stages.motion.stage import MotionStage

    return MotionStage(output_url=output_url, config=config)


def make_films(*, output_url: str, config: FilmsConfig) -> Stage:
    """The films stage."""
    from storyreel.stages.films.stage import FilmsStage

    return FilmsStage(output_url=output_url, config=config)


def make_scoring(*, output_url: str, config: ScoringConfig) -> Stage:
    """The scoring stage, its encoder loaded."""
    from storyreel.stages.scoring.stage import ScoringStage

    return ScoringStage(output_url=output_url, config=config)


def make_splitting(
    *,
    config: PromptsConfig,
    model: ModelConfig,
    films: FilmsConfig,
    num_frames: int,
    limits: InputConfig,
) -> Stage:
    """The first half of the prompts stage: it returns the story as a written storyboard."""
    from storyreel.stages.prompts.stage import PromptsStage

    stage = PromptsStage(
        config=config,
        model=model,
        num_frames=num_frames,
        fps=films.fps,
        still_s=films.still_s,
        limits=limits,
    )
    return lambda story: (stage.split(story),)
