"""The settings of the motion stage."""

from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from storyreel.stages.models.config import IPAdapterConfig, ModelConfig, PartConfig, SchedulerConfig
from storyreel.stages.settings import Settings


class RendererKind(StrEnum):
    """The renderer of the frames between two keyframes."""

    SEMANTIC_MOTION = "semantic_motion"
    """The paper: Semantic Motion Predictor and video diffusion."""
    IMAGE_PROMPT = "image_prompt"
    """Interpolated IP-Adapter tokens: public weights, nothing trained for it."""


class Anchor(StrEnum):
    """The form in which the video model is given the two keyframes."""

    CLEAN = "clean"
    """The keyframes themselves, as a model sees them that was trained so."""
    NOISED = "noised"
    """The keyframes at the step's noise level, for models that only know evenly noisy clips."""


class DenoiseConfig(Settings):
    """The denoising loop of a clip."""

    num_inference_steps: int = Field(default=12, ge=1)
    """Denoising steps."""
    guidance_scale: float = Field(default=3.0, ge=0)
    """1 and below: no guidance, and half the work."""
    anchor: Anchor = Anchor.CLEAN
    """What the video model sees of the keyframes: "clean", as they are, for models trained so;
    "noised", at the step's noise level, for models that only know evenly noisy clips."""

    @property
    def num_branches(self) -> int:
        """2 with classifier-free guidance, else 1."""
        return 2 if self.guidance_scale > 1 else 1


class MotionSchedulerConfig(SchedulerConfig):
    """The sampler of the video model."""

    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] | None = None
    """The noise schedule, where the motion adapter was trained with another one than the image
    model: "linear" for AnimateDiff's published adapters; default: the image model's."""

    def options(self) -> dict[str, Any]:
        """As for keyframes, and the noise schedule where the adapter has its own."""
        options = super().options()
        if self.beta_schedule is not None:
            options["beta_schedule"] = self.beta_schedule
        return options


class MotionConfig(DenoiseConfig):
    """Settings of the motion stage."""

    model: ModelConfig = ModelConfig()
    scheduler: MotionSchedulerConfig = MotionSchedulerConfig()
    renderer: RendererKind = RendererKind.SEMANTIC_MOTION
    """"semantic_motion": the Semantic Motion Predictor of the paper; "image_prompt": interpolated
    IP-Adapter tokens, from public weights."""
    motion_adapter: PartConfig = PartConfig(subfolder="motion_adapter")
    image_encoder: PartConfig = PartConfig(subfolder="image_encoder")
    feature_extractor: PartConfig = PartConfig(subfolder="feature_extractor")
    motion_predictor: PartConfig = PartConfig(subfolder="motion_predictor")
    """Used by `semantic_motion` only."""
    ip_adapter: IPAdapterConfig = IPAdapterConfig()
    """Used by `image_prompt` only."""
    width: int | None = Field(default=None, ge=1)
    """Pixels of a clip, if the video model needs another size than the keyframes have; in the same
    proportions."""
    height: int | None = Field(default=None, ge=1)
    """Pixels, as `width`; both or none of them."""
    num_frames: int = Field(default=16, ge=4)
    """Frames of a clip, both keyframes included; what the motion adapter knows is the upper end."""
    read_keyframes: bool = True
    """Whether every frame's spatial self-attention also reads the tokens of both keyframes."""
    decode_batch_size: int = Field(default=4, ge=1)
    """Frames that the VAE decodes at once."""

    @model_validator(mode="after")
    def _both_sizes_or_none(self) -> Self:
        if (self.width is None) != (self.height is None):
            raise ValueError(
                f"width: {self.width}, height: {self.height}; allowed are both, or none of them"
            )
        return self
