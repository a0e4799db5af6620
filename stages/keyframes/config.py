"""The `[keyframes]` section of a configuration; defaults suit the pocket model."""

from typing import Literal, Self

from pydantic import Field, model_validator

from storyreel.stages.models.config import IPAdapterConfig, ModelConfig, PartConfig, SchedulerConfig
from storyreel.stages.settings import Settings


class StepsConfig(Settings):
    """The share of the denoising steps in which something is at work."""

    start: float = Field(default=0.0, ge=0, le=1)
    """Share of the denoising steps after which it begins."""
    end: float = Field(default=1.0, ge=0, le=1)
    """Share of the denoising steps after which it stops."""

    @model_validator(mode="after")
    def _start_comes_first(self) -> Self:
        if self.start > self.end:
            raise ValueError(f"start: {self.start}, allowed at most end = {self.end}")
        return self

    def is_active(self, step_index: int, num_steps: int) -> bool:
        """True if this step is in the configured share."""
        return self.start * num_steps <= step_index < self.end * num_steps


class ConsistencyConfig(StepsConfig):
    """Consistent Self-Attention: which panels read which, how much of them, where and when."""

    coverage: Literal["window", "star", "none"] = "window"
    """"window": neighbours read each other (Algorithm 1); "star": all read the first panels."""
    window_size: int = Field(default=5, ge=2)
    """Neighbours that read each other in a window."""
    max_panels: int = Field(default=16, ge=2)
    """Most panels of a UNet call of windows, the reference images of the characters among them:
    memory grows with it, not with the story. A longer story is rendered in stretches of so many
    panels that share `window_size` - 1 of them, so that every window is in a stretch; what
    stretches predict for a panel that they share is averaged. A story is refused if a window and
    its reference images do not fit."""
    num_references: int = Field(default=4, ge=1)
    """First panels of a star; they also read each other."""
    sampling_rate: float = Field(default=0.5, ge=0, le=1)
    """Share of the tokens of a panel that others read."""
    sampling: Literal["random", "grid"] = "random"
    """Which tokens those are: drawn anew in every step, or evenly spread."""
    layers: tuple[Literal["down_blocks", "mid_block", "up_blocks"], ...] = Field(
        default=("down_blocks", "mid_block", "up_blocks"), min_length=1
    )
    """Parts of the UNet in which panels read each other."""
    branches: Literal["both", "positive"] = "both"
    """Branches of the guidance in which panels read each other. "both": as in the paper.
    "positive": the negative branch sees each panel alone, so that guidance strengthens what the
    panels tell each other as it strengthens what the prompts tell."""
    subject: bool = False
    """True: only figures read, each all of its own character in the other panels, and places stay
    what the prompts say. Where the figures are is seen in the UNet's cross-attention. Panels that
    nobody is in read and are read as without. Needs `branches` = "positive"."""
    subject_start: int = Field(default=2, ge=1)
    """Steps, of those in which panels read each other, before `subject` begins: until then panels
    read whole panels, and it is seen where the figures are."""

    @model_validator(mode="after")
    def _a_window_fits_one_call(self) -> Self:
        if self.coverage == "window" and self.window_size > self.max_panels:
            raise ValueError(
                f"window_size: {self.window_size}, allowed at most max_panels = {self.max_panels}"
            )
        return self

    @model_validator(mode="after")
    def _subjects_are_in_the_positive_branch(self) -> Self:
        if self.subject and self.branches != "positive":
            raise ValueError('subject: true, allowed only with branches = "positive"')
        return self

    def window_of(self, num_panels: int) -> int:
        """Panels of a window in a story of so many."""
        return min(self.window_size, num_panels)

    def is_active(self, step_index: int, num_steps: int) -> bool:
        """True if this step is in the configured share."""
        return self.coverage != "none" and super().is_active(step_index, num_steps)

    def is_masked(self, step_index: int, num_steps: int) -> bool:
        """True if figures alone read in this step."""
        seen = self.is_active(step_index - self.subject_start, num_steps)
        return self.subject and seen and self.is_active(step_index, num_steps)


class ImagePromptConfig(IPAdapterConfig):
    """Image prompts of the panels, beside their texts.

    A panel is prompted by the reference images of its characters. In a story that has none, the
    first panel that names characters is rendered for that alone and without the adapter; it prompts
    the panels that share a character with it. Where no panel names a character, the first one
    prompts them all.
    """

    image_encoder: PartConfig = PartConfig(subfolder="image_encoder")
    """The CLIP image encoder that the adapter was trained with."""
    feature_extractor: PartConfig = PartConfig(subfolder="feature_extractor")


class ControlNetConfig(PartConfig, StepsConfig):
    """A ControlNet (arXiv 2302.05543), which the panels that have a control image follow."""

    path: str
    """A bundled folder, a local folder, or a repository of the hub, of the UNet's own family."""
    conditioning_scale: float = Field(default=1.0, ge=0, le=2)
    """Weight of what the ControlNet adds to the UNet; 0: it changes nothing."""


class FreeUConfig(Settings):
    """FreeU (arXiv 2309.11497): stronger features and weaker skip connections in the last blocks.

    The defaults are those of the method's published code.
    """

    s1: float = Field(default=0.6, gt=0, le=2)
    """Weight of the low frequencies of the skip connections of the first of the two up blocks."""
    s2: float = Field(default=0.4, gt=0, le=2)
    """As `s1`, of the second."""
    b1: float = Field(default=1.1, gt=0, le=2)
    """Weight of half of the features of the first up block."""
    b2: float = Field(default=1.2, gt=0, le=2)
    """As `b1`, of the second."""


class KeyframesConfig(Settings):
    """Settings of the keyframes stage."""

    model: ModelConfig = ModelConfig()
    width: int = Field(default=256, ge=1)
    """Pixels; a multiple of what the VAE folds into one latent."""
    height: int = Field(default=256, ge=1)
    """Pixels, as `width`."""
    num_inference_steps: int = Field(default=20, ge=1)
    """Denoising steps."""
    guidance_scale: float = Field(default=3.5, ge=0)
    """Classifier-free guidance; up to 1 the negative prompt has no effect and is not computed."""
    scheduler: SchedulerConfig = SchedulerConfig()
    consistency: ConsistencyConfig = ConsistencyConfig()
    image_prompt: ImagePromptConfig | None = None
    """Default: text prompts only."""
    controlnet: ControlNetConfig | None = None
    """Default: no ControlNet; control images of panels are refused."""
    free_u: FreeUConfig | None = None
    """Default: the UNet as it was trained."""
    batch_size: int = Field(default=4, ge=1)
    """Panels of one model call wherever panels do not have to run together."""
