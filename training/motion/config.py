"""Settings of `storyreel train motion`: one TOML file is one training run."""

import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Self

from pydantic import Field, PositiveInt, model_validator

from storyreel.stages.models.config import ModelConfig, PartConfig
from storyreel.training.config import MotionConfig, PredictorConfig, Section, StageConfig
from storyreel.training.videos.config import VideosConfig


class Objective(StrEnum):
    """What the error is an error of."""

    SEMANTIC = "semantic"
    """Of the true frames' tokens: needs an image encoder only, and is quick."""
    PAPER = "paper"
    """Of the video model's frames, through which the predictor learns (section 3.2)."""


class ModelsConfig(Section):
    """The frozen models, and the motion module that the paper's objective goes on training."""

    model: ModelConfig = ModelConfig()
    """A text-to-image pipeline of SD1.5's or SD2.1's family, in float32."""
    image_encoder: PartConfig = PartConfig(subfolder="image_encoder")
    feature_extractor: PartConfig = PartConfig(subfolder="feature_extractor")
    start: PartConfig | None = None
    """A predictor to go on from, of the shape of `predictor`; default: a random one. The semantic
    objective keeps its projection into the video model's text space, which it cannot train."""
    motion_adapter: PartConfig | None = None
    """Where the motion module starts; default: one that changes nothing yet."""
    beta_schedule: str | None = None
    """Of the noise, if the motion adapter has its own: "linear" for AnimateDiff's."""


class WorkersConfig(Section):
    """The processes of Ray Train; each takes its own batches, all take the same steps."""

    num_workers: PositiveInt = 1
    num_cpus: float = Field(default=1, gt=0)
    """Of one worker."""
    num_gpus: float = Field(default=0, ge=0)
    """Of one worker; 0 or 1."""
    max_failures: int = Field(default=3, ge=0)
    """How often the workers are started again; they go on from the last checkpoint."""


class MotionTrainingConfig(Section):
    """The whole run."""

    seed: int = 0
    objective: Objective = Objective.SEMANTIC
    max_frames: PositiveInt = 32
    """The longest clip that the predictor will accept."""
    validate_every: PositiveInt = 1000
    """Steps between measurements on held-out clips."""
    models: ModelsConfig = ModelsConfig()
    videos: VideosConfig = VideosConfig()
    predictor: PredictorConfig
    """Shape of the predictor, and the steps of the semantic objective."""
    motion: MotionConfig | None = None
    """The steps of the paper's objective."""
    workers: WorkersConfig = WorkersConfig()

    @model_validator(mode="after")
    def _the_objective_has_its_steps(self) -> Self:
        if self.objective is Objective.PAPER and self.motion is None:
            raise ValueError("motion: is missing; the objective is paper")
        if self.models.model.dtype != "float32":
            raise ValueError(
                f"models.model.dtype: {self.models.model.dtype!r}, allowed is float32: weights that"
                " learn are kept so, and computed with in bfloat16"
            )
        if not self.predictor.min_frames <= self.videos.num_frames <= self.max_frames:
            raise ValueError(
                f"videos.num_frames: {self.videos.num_frames}, allowed are"
                f" {self.predictor.min_frames} (predictor.min_frames) to {self.max_frames}"
                " (max_frames)"
            )
        if self.predictor.hidden_dim % self.predictor.num_heads:
            raise ValueError(
                f"predictor.num_heads: {self.predictor.num_heads}, allowed are divisors of"
                f" hidden_dim = {self.predictor.hidden_dim}"
            )
        return self

    @property
    def steps(self) -> StageConfig:
        """Number, rate and average of the objective's steps."""
        steps = self.motion if self.objective is Objective.PAPER else self.predictor
        assert steps is not None
        return steps

    @property
    def num_steps(self) -> int:
        """Of the objective."""
        return self.steps.num_steps

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a TOML file.

        Raises:
            ValueError: a key is unknown, missing or out of range (pydantic's `ValidationError`).
        """
        return cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
