"""The settings of the motion stage: what all renderers share, and a table for each of them."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from storyreel.stages.models.config import IPAdapterConfig, ModelConfig, PartConfig, SchedulerConfig
from storyreel.stages.settings import Settings


class Anchor(StrEnum):
    """The form in which the video model is given the two keyframes."""

    CLEAN = "clean"
    """The keyframes themselves, as a model sees them that was trained so."""
    NOISED = "noised"
    """The keyframes at the step's noise level, for models that only know evenly noisy clips."""


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


class VideoUNetConfig(Settings):
    """What the renderers share that make a video model of an image UNet and a motion adapter."""

    scheduler: MotionSchedulerConfig = MotionSchedulerConfig()
    motion_adapter: PartConfig = PartConfig(subfolder="motion_adapter")
    anchor: Anchor = Anchor.CLEAN
    """What the video model sees of the keyframes: "clean", as they are, for models trained so;
    "noised", at the step's noise level, for models that only know evenly noisy clips."""
    read_keyframes: bool = True
    """Whether every frame's spatial self-attention also reads the tokens of both keyframes."""


class SemanticMotionConfig(VideoUNetConfig):
    """The paper's renderer: a Semantic Motion Predictor conditions the video model."""

    kind: Literal["semantic_motion"] = "semantic_motion"
    image_encoder: PartConfig = PartConfig(subfolder="image_encoder")
    feature_extractor: PartConfig = PartConfig(subfolder="feature_extractor")
    motion_predictor: PartConfig = PartConfig(subfolder="motion_predictor")


class ImagePromptConfig(VideoUNetConfig):
    """IP-Adapter tokens, interpolated from keyframe to keyframe: public weights, no training."""

    kind: Literal["image_prompt"] = "image_prompt"
    image_encoder: PartConfig = PartConfig(subfolder="image_encoder")
    feature_extractor: PartConfig = PartConfig(subfolder="feature_extractor")
    ip_adapter: IPAdapterConfig = IPAdapterConfig()


class SparseControlConfig(VideoUNetConfig):
    """SparseCtrl (arXiv 2311.16933): a ControlNet that knows a clip's first and last frame."""

    kind: Literal["sparse_control"] = "sparse_control"
    sparse_controlnet: PartConfig = PartConfig(subfolder="sparse_controlnet")
    """The RGB model, which reads latents; the scribble model reads drawings and is refused."""
    conditioning_scale: float = Field(default=1.0, gt=0, le=2)
    """Weight of what the ControlNet adds to the video model's features."""


class LoraConfig(PartConfig):
    """Low-rank weights that are added to a model's own."""

    path: str
    """A local folder or a repository of the hub."""
    weight_name: str = Field(pattern=r"\.safetensors$")
    """The file."""
    scale: float = Field(default=1.0, gt=0, le=2)
    """Weight of what is added."""


class FirstLastFrameConfig(Settings):
    """Wan 2.1 or 2.2: image-to-video of a first and a last frame, in one diffusion transformer."""

    kind: Literal["first_last_frame"] = "first_last_frame"
    flow_shift: float | None = Field(default=None, gt=0, le=20)
    """Shift of the noise levels; Wan names 3 for 480p and 5 for 720p; default: the model's."""
    lora: LoraConfig | None = None
    """Such as a distilled one, of 4 steps without guidance; of Wan 2.2, for high noise levels."""
    low_noise_lora: LoraConfig | None = None
    """For the second transformer of Wan 2.2."""
    max_frames: int = Field(default=81, ge=5)
    """The longest clip that the model knows; longer shots are rendered in windows."""
    max_text_tokens: int = Field(default=512, ge=16, le=512)
    """Tokens of a text that are read; words beyond are cut."""


class LatentInterpolationConfig(Settings):
    """A baseline without a video model: the VAE decodes latents between the keyframes'."""

    kind: Literal["latent_interpolation"] = "latent_interpolation"


class DissolveConfig(Settings):
    """A baseline without any model: the keyframes are blended."""

    kind: Literal["dissolve"] = "dissolve"


RendererConfig = Annotated[
    SemanticMotionConfig
    | ImagePromptConfig
    | SparseControlConfig
    | FirstLastFrameConfig
    | LatentInterpolationConfig
    | DissolveConfig,
    Field(discriminator="kind"),
]

RENDERERS: Mapping[str, type[Settings]] = {
    kind.model_fields["kind"].default: kind
    for kind in (
        SemanticMotionConfig,
        ImagePromptConfig,
        SparseControlConfig,
        FirstLastFrameConfig,
        LatentInterpolationConfig,
        DissolveConfig,
    )
}
"""The table of each renderer, by its `kind`."""

FLAT = frozenset(
    {
        "anchor",
        "feature_extractor",
        "image_encoder",
        "ip_adapter",
        "motion_adapter",
        "motion_predictor",
        "read_keyframes",
        "scheduler",
    }
)
"""What stood in the section itself, for all renderers, before each had a table of its own."""


class MotionConfig(Settings):
    """Settings of the motion stage."""

    model: ModelConfig = ModelConfig()
    """The weights of the renderer; `dissolve` has none."""
    renderer: RendererConfig = SemanticMotionConfig()
    """What makes the frames between two keyframes; its `kind` says which keys it has."""
    num_inference_steps: int = Field(default=12, ge=1)
    """Denoising steps."""
    guidance_scale: float = Field(default=3.0, ge=0)
    """1 and below: no guidance, and half the work. A panel may state its own."""
    width: int | None = Field(default=None, ge=1)
    """Pixels of a clip, if the video model needs another size than the keyframes have; in the same
    proportions."""
    height: int | None = Field(default=None, ge=1)
    """Pixels, as `width`; both or none of them."""
    num_frames: int = Field(default=16, ge=4)
    """Frames of a clip in the film, both keyframes included. More than the model knows are rendered
    in windows."""
    fps: int | None = Field(default=None, ge=1, le=60)
    """Frames a second that the video model was trained for, if the film has more: clips are
    rendered at this rate and brought to the film's by blending neighbours. Default: the film's."""
    batch_size: int = Field(default=1, ge=1, le=64)
    """Windows of a long shot that are rendered in one call, where memory allows."""
    decode_batch_size: int = Field(default=4, ge=1)
    """Frames that the VAE decodes at once."""

    @property
    def num_branches(self) -> int:
        """2 with classifier-free guidance, else 1."""
        return 2 if self.guidance_scale > 1 else 1

    @model_validator(mode="before")
    @classmethod
    def _renderers_of_earlier_versions(cls, values: Any) -> Any:
        """Read `renderer = "image_prompt"`, with its keys in the section itself, as jobs and files
        of earlier versions state it."""
        if not isinstance(values, Mapping):
            return values
        named, flat = values.get("renderer", "semantic_motion"), FLAT & values.keys()
        if isinstance(named, Mapping):  # a profile may override keys of the default renderer
            return {**values, "renderer": {"kind": "semantic_motion", **named}}
        if not isinstance(named, str) or named not in RENDERERS:
            return values
        known = RENDERERS[named].model_fields
        table = {name: values[name] for name in sorted(flat) if name in known}
        kept = {name: value for name, value in values.items() if name not in flat}
        return {**kept, "renderer": {"kind": named, **table}}

    @model_validator(mode="after")
    def _both_sizes_or_none(self) -> Self:
        if (self.width is None) != (self.height is None):
            raise ValueError(
                f"width: {self.width}, height: {self.height}; allowed are both, or none of them"
            )
        return self
