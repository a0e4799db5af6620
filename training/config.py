"""Settings of `python -m storyreel.training`: one TOML file is one training run."""

import tomllib
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator


class Section(BaseModel):
    """A part of the run's config; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class WorldConfig(Section):
    """The number and size of pictures and clips of the world that are drawn and cached."""

    num_images: PositiveInt
    num_clips: PositiveInt
    num_frames: PositiveInt = 16
    image_size: PositiveInt = 128
    """Side of the square pictures, in pixels."""
    num_held_out: PositiveInt = 100
    """Images and clips at the end of the cache that no stage trains on."""
    num_workers: PositiveInt = 2


class StageConfig(Section):
    """The length and learning rate of one stage of training."""

    num_steps: PositiveInt
    batch_size: PositiveInt
    """Of one process and one pass."""
    accumulation: PositiveInt = 1
    """Passes of one process before a step; two of one process are one of two processes."""
    learning_rate: PositiveFloat
    weight_decay: float = Field(default=0.01, ge=0)
    warmup_steps: PositiveInt = 100
    decay_share: float = Field(default=0.2, gt=0, le=1)
    """Share of the steps, at the end, in which the rate falls linearly to zero."""
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    checkpoint_every: PositiveInt = 200
    """Steps between checkpoints; an interrupted run continues from the last one."""


class TokenizerConfig(Section):
    """The byte-level vocabulary."""

    vocab_size: int = Field(default=2000, ge=600)
    num_captions: PositiveInt = 4000


class ClipConfig(StageConfig):
    """The contrastively trained text and image encoders."""

    projection_dim: PositiveInt = 128
    text_dim: PositiveInt = 128
    text_layers: PositiveInt = 3
    image_dim: PositiveInt = 160
    image_layers: PositiveInt = 5
    num_heads: PositiveInt = 4
    image_size: PositiveInt = 64
    patch_size: PositiveInt = 16
    class_weight: float = Field(default=0.5, ge=0)
    patch_weight: float = Field(default=5.0, ge=0)


class VaeConfig(StageConfig):
    """The autoencoder between pixels and latents: both halves on crops, then the decoder alone."""

    block_out_channels: tuple[PositiveInt, ...] = (16, 32, 64, 64)
    latent_channels: PositiveInt = 8
    norm_num_groups: PositiveInt = 8
    crop_size: PositiveInt = 64
    decoder: StageConfig
    """The second part: whole pictures, the encoder and so all latents fixed."""
    edge_weight: float = Field(default=0.5, ge=0)
    kl_weight: float = Field(default=1e-4, ge=0)


class ImagesConfig(StageConfig):
    """The image UNet."""

    block_out_channels: tuple[PositiveInt, ...] = (96, 160)
    layers_per_block: PositiveInt = 1
    num_heads: PositiveInt = 4
    norm_num_groups: PositiveInt = 16
    text_dropout: float = Field(default=0.1, ge=0, le=1)
    image_tokens_share: float = Field(default=0.3, ge=0, le=1)
    """Share of the batches that also read the image's own tokens."""
    figure_weight: float = Field(default=4.0, ge=1)
    """How much more the loss of a figure counts than that of a place."""
    shown_share: float = Field(default=0.7, ge=0, le=1)
    """Share of the pictures with twins in which one of the two is less noisy than the rest."""


class PredictorConfig(StageConfig):
    """The Semantic Motion Predictor, trained alone in the image encoder's token space."""

    min_frames: int = Field(default=6, ge=3)
    """Shortest part of a clip that it is shown."""
    hidden_dim: PositiveInt = 160
    num_layers: PositiveInt = 8
    num_heads: PositiveInt = 4


class MotionConfig(StageConfig):
    """Joint training: every step takes `batch_size` images and `clip_batch_size` clips."""

    clip_batch_size: PositiveInt = 2
    text_dropout: float = Field(default=0.1, ge=0, le=1)
    tokens_dropout: float = Field(default=0.2, ge=0, le=1)
    """Share of the batches that are told nothing by the predictor."""
    keyframe_reading_share: float = Field(default=0.5, ge=0, le=1)
    """Share of the batches whose spatial self-attention also reads both keyframes."""


class TruthConfig(StageConfig):
    """The estimator of what a picture of the world shows."""

    channels: tuple[PositiveInt, PositiveInt, PositiveInt] = (48, 80, 128)
    """Of the feature maps at 1/4, 1/8 and 1/16 of the picture's side; multiples of 8."""
    blocks: tuple[PositiveInt, PositiveInt, PositiveInt] = (1, 2, 1)
    num_reconstructed: PositiveInt = 3000
    """Training pictures that it also sees as the autoencoder gives them back."""
    reconstructed_share: float = Field(default=0.4, ge=0, le=1)
    """Share of these pictures' views that are the autoencoder's."""


class ImagePromptConfig(StageConfig):
    """The image prompt adapter; the UNet that it is for stays as it is."""

    num_steps: PositiveInt = 1200
    batch_size: PositiveInt = 16
    learning_rate: PositiveFloat = 1e-3
    text_dropout: float = Field(default=0.1, ge=0, le=1)
    """Share of the pictures that have no caption."""
    image_dropout: float = Field(default=0.1, ge=0, le=1)
    """Share of the pictures that have no image prompt."""
    min_crop: float = Field(default=0.6, gt=0, le=1)
    """Smallest side of the crop that prompts a picture, as a share of the picture's."""


class TrainingConfig(Section):
    """The whole run, in the order of its stages."""

    seed: int = 0
    num_threads: PositiveInt = 2
    device: Literal["cpu", "cuda"] = "cpu"
    world: WorldConfig
    tokenizer: TokenizerConfig = TokenizerConfig()
    clip: ClipConfig
    vae: VaeConfig
    images: ImagesConfig
    predictor: PredictorConfig
    motion: MotionConfig
    image_prompt: ImagePromptConfig = ImagePromptConfig()
    truth: TruthConfig = TruthConfig(
        num_steps=2400, batch_size=32, learning_rate=2e-3, decay_share=0.6, ema_decay=0.995
    )

    @model_validator(mode="after")
    def _a_clip_holds_its_shortest_part(self) -> Self:
        if self.predictor.min_frames > self.world.num_frames:
            raise ValueError(
                f"predictor.min_frames: {self.predictor.min_frames}, allowed at most"
                f" world.num_frames = {self.world.num_frames}"
            )
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a TOML file.

        Raises:
            ValueError: a key is unknown, missing or out of range (pydantic's `ValidationError`).
        """
        return cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
