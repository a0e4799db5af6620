"""The motion predictor alone, then image UNet, motion modules and clips together.

Axes: B clips, F frames, C latent channels, L text tokens, N image tokens, D cross-attention
channels.
"""

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from diffusers import MotionAdapter, UNetMotionModel
from einops import rearrange, repeat
from torch import Tensor, nn

from storyreel.stages.models.attention import LockStep, readers
from storyreel.stages.models.unet_attention import StoryAttention, install_attention
from storyreel.stages.motion.predictor import SemanticMotionPredictor, interpolate
from storyreel.training.checkpoints import Trainer
from storyreel.training.config import MotionConfig, PredictorConfig, TrainingConfig
from storyreel.training.parts.clip import ClipModels
from storyreel.training.parts.images import (
    EncodedImages,
    ImageLoss,
    build_predictor,
    build_scheduler,
    draw_captions,
    draw_timesteps,
)

logger = logging.getLogger(__name__)

MAX_FRAMES = 32
JOINT = ("unet", "motion_unet", "predictor")
"""The modules of the joint training."""


class Rows(Protocol):
    """A tensor, or what is indexed like one and lies on a disk."""

    @property
    def shape(self) -> Sequence[int]:
        """Of all rows."""

    def __getitem__(self, index: Any) -> Tensor:
        """Some rows, perhaps with a span of the second axis."""


class TextEncoder(Protocol):
    """What gives the video model its texts."""

    def encode_text(self, texts: list[str]) -> Tensor:
        """Per-token states (B, L, D), as a pipeline's `prompt_embeds`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedClips:
    """Clips as the frozen models see them."""

    latents: Rows
    """(clips, F, C, H, W), scaled."""
    tokens: Rows
    """(clips, F, N, token channels) of the image encoder."""
    captions: Sequence[Sequence[str]]
    """Wordings of each clip's caption."""
    num_training: int
    """The clips from here on are held out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictorError:
    """Mean squared error of held-out in-between tokens."""

    predicted: float
    interpolated: float


def inner_error(predicted: Tensor, tokens: Tensor) -> Tensor:
    """Mean squared error of the frames between the keyframes of (B, F, N, C) clips."""
    return F.mse_loss(predicted[:, 1:-1].float(), tokens[:, 1:-1].float())


def train_predictor(
    config: TrainingConfig, clip: ClipModels, clips: EncodedClips, directory: Path
) -> SemanticMotionPredictor:
    """Train or continue to train the predictor on the true tokens of in-between frames."""
    predictor = build_predictor(config, clip)
    # The projection belongs to the UNet's training.
    predictor.projection.requires_grad_(requires_grad=False)
    modules = nn.ModuleDict({"predictor": predictor}).to(config.device)
    path = directory / "predictor.safetensors"
    trainer = Trainer(modules, config.predictor, path, seed=config.seed)
    loss = PredictorLoss(predictor=predictor, clips=clips, config=config.predictor)
    averaged: Any = trainer.run(loss)["predictor"]
    error = held_out_error(averaged, clips)
    logger.info("held-out error %.5f, of interpolation %.5f", error.predicted, error.interpolated)
    trained: SemanticMotionPredictor = averaged
    return trained


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictorLoss:
    """Error of a random batch of clips, in units of the tokens' variance."""

    predictor: SemanticMotionPredictor
    clips: EncodedClips
    config: PredictorConfig

    def __call__(self, generator: torch.Generator) -> Tensor:
        """Draw parts of clips from the CPU generator, half backwards; return their error."""
        count = self.clips.num_training
        indices = torch.randint(count, (self.config.batch_size,), generator=generator)
        span = draw_span(self.clips.tokens.shape[1], self.config.min_frames, generator)
        tokens = self.clips.tokens[indices, span].float().to(self.predictor.device)
        if torch.rand((), generator=generator) < 0.5:
            tokens = tokens.flip(1)
        predicted = self.predictor(tokens[:, 0], tokens[:, -1], tokens.shape[1])
        return inner_error(predicted, tokens) / tokens.var()


def draw_span(num_frames: int, min_frames: int, generator: torch.Generator) -> slice:
    """A run of neighbouring frames: its ends are keyframes as good as the clip's own, so that a
    few thousand clips show many more motions; the whole clip in half of the cases."""
    if torch.rand((), generator=generator) < 0.5:
        return slice(0, num_frames)
    length = int(torch.randint(min_frames, num_frames + 1, (), generator=generator))
    start = int(torch.randint(num_frames - length + 1, (), generator=generator))
    return slice(start, start + length)


@torch.no_grad()
def held_out_error(predictor: SemanticMotionPredictor, clips: EncodedClips) -> PredictorError:
    """The predictor against linear interpolation on clips that no stage trained on."""
    predicted, interpolated = [], []
    for row in range(clips.num_training, clips.tokens.shape[0]):
        tokens = clips.tokens[row : row + 1].float().to(predictor.device)
        first, last, num_frames = tokens[:, 0], tokens[:, -1], tokens.shape[1]
        predicted.append(float(inner_error(predictor(first, last, num_frames), tokens)))
        interpolated.append(float(inner_error(interpolate(first, last, num_frames), tokens)))
    count = len(predicted)
    return PredictorError(predicted=sum(predicted) / count, interpolated=sum(interpolated) / count)


def build_adapter(unet: Any) -> Any:
    """Motion modules for every block of a UNet that, untrained, change nothing."""
    config = unet.config
    adapter: Any = MotionAdapter(
        block_out_channels=tuple(config.block_out_channels),
        motion_layers_per_block=config.layers_per_block,
        motion_mid_block_layers_per_block=1,
        motion_num_attention_heads=config.attention_head_dim,
        motion_norm_num_groups=config.norm_num_groups,
        motion_max_seq_length=MAX_FRAMES,
        use_motion_mid_block=True,
    )
    for name, parameter in adapter.named_parameters():
        # AnimateDiff's start, which diffusers leaves to the loaded weights. Only the module's own
        # last projection; those inside its attention layers stay random.
        if name.split(".")[-2] == "proj_out":
            nn.init.zeros_(parameter)
    return adapter


def tie_spatial(motion_unet: Any, unet: Any) -> None:
    """Let both UNets hold the very same spatial parameters, so that one training serves both."""
    for name, module in unet.named_modules():
        for parameter_name, parameter in module.named_parameters(recurse=False):
            setattr(motion_unet.get_submodule(name), parameter_name, parameter)


def motion_state(motion_unet: Any) -> dict[str, Tensor]:
    """The weights of a video UNet that a `MotionAdapter` holds."""
    return {k: v for k, v in motion_unet.state_dict().items() if "motion_modules" in k}


def noise_target(scheduler: Any, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """What a model of the scheduler's kind predicts; it says "epsilon" or "v_prediction"."""
    if scheduler.config.prediction_type == "epsilon":
        return noise
    velocity: Tensor = scheduler.get_velocity(latents, noise, timesteps)
    return velocity


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipLoss:
    """The denoising loss of a random batch of clips with clean keyframes at both ends."""

    motion_unet: Any
    """`UNetMotionModel`."""
    predictor: SemanticMotionPredictor
    clip: TextEncoder
    clips: EncodedClips
    attention: StoryAttention
    """Installed in `motion_unet`."""
    config: MotionConfig
    scheduler: Any

    def __call__(self, generator: torch.Generator) -> Tensor:
        """Draw a batch from the CPU generator; return the error of the inner frames."""
        device = self.motion_unet.device
        indices = torch.randint(
            self.clips.num_training, (self.config.clip_batch_size,), generator=generator
        )
        texts = draw_captions(self.clips.captions, indices, self.config.text_dropout, generator)
        context = self._context(texts, indices, generator)
        latents = rearrange(
            self.clips.latents[indices].float().to(device), "b f c h w -> b c f h w"
        )
        timesteps = draw_timesteps(self.scheduler, len(indices), generator).to(device)
        noise = torch.randn(latents.shape, generator=generator).to(device)
        noisy = self.scheduler.add_noise(latents, noise, timesteps)
        noisy[:, :, [0, -1]] = latents[:, :, [0, -1]]
        target = noise_target(self.scheduler, latents, noise, timesteps)
        with self.attention.following(self._plan(generator)):
            predicted = self.motion_unet(noisy, timesteps, encoder_hidden_states=context).sample
        return F.mse_loss(predicted[:, :, 1:-1].float(), target[:, :, 1:-1])

    def _plan(self, generator: torch.Generator) -> LockStep | None:
        """Every frame reads both keyframes, as in sampling; in a share of the batches, none."""
        if torch.rand((), generator=generator) >= self.config.keyframe_reading_share:
            return None
        num_frames = self.clips.latents.shape[1]
        views = readers(num_frames, (0, num_frames - 1))
        return LockStep(views, lambda num_tokens: torch.arange(num_tokens).expand(num_frames, -1))

    def _context(self, texts: list[str], indices: Tensor, generator: torch.Generator) -> Tensor:
        """(B * F, L + N, D), or (B * F, L, D) where the predictor is dropped."""
        num_frames = self.clips.latents.shape[1]
        context = repeat(self.clip.encode_text(texts), "b l d -> (b f) l d", f=num_frames)
        if torch.rand((), generator=generator) < self.config.tokens_dropout:
            return context
        tokens = self.clips.tokens[indices].float().to(self.motion_unet.device)
        predicted = self.predictor(tokens[:, 0], tokens[:, -1], num_frames)
        projected = rearrange(self.predictor.project(predicted), "b f n d -> (b f) n d")
        return torch.cat([context, projected], dim=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class JointLoss:
    """Single images in every step, so that motion does not cost the keyframes."""

    image_loss: ImageLoss
    clip_loss: ClipLoss

    def __call__(self, generator: torch.Generator) -> Tensor:
        """Draw both batches from the CPU generator; return the sum of their errors."""
        return self.image_loss(generator) + self.clip_loss(generator)


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionModels:
    """The models that joint training returns."""

    unet: Any
    adapter: Any
    predictor: SemanticMotionPredictor


def build_joint(unet: Any, predictor: SemanticMotionPredictor) -> nn.ModuleDict:
    """The image UNet, a video UNet tied to it, and the predictor with a trainable projection."""
    unet, predictor = copy.deepcopy(unet), copy.deepcopy(predictor)
    motion_unet = UNetMotionModel.from_unet2d(unet, build_adapter(unet))
    tie_spatial(motion_unet, unet)
    modules = nn.ModuleDict({"unet": unet, "motion_unet": motion_unet, "predictor": predictor})
    modules.requires_grad_(requires_grad=True)
    predictor.requires_grad_(requires_grad=False).projection.requires_grad_(requires_grad=True)
    return modules


def train_motion(
    config: TrainingConfig,
    modules: nn.ModuleDict,
    clip: ClipModels,
    images: EncodedImages,
    clips: EncodedClips,
    directory: Path,
) -> MotionModels:
    """Train or continue to train `build_joint`'s modules on images and clips together."""
    modules = modules.to(config.device)
    trainer = Trainer(modules, config.motion, directory / "motion.safetensors", seed=config.seed)
    loss = build_joint_loss(config, modules, clip, images, clips)
    return motion_models(trainer.run(loss))


def build_joint_loss(
    config: TrainingConfig,
    modules: nn.ModuleDict,
    clip: ClipModels,
    images: EncodedImages,
    clips: EncodedClips,
) -> JointLoss:
    """The loss of `build_joint`'s modules."""
    unet, motion_unet, predictor = (modules[name] for name in JOINT)
    assert isinstance(predictor, SemanticMotionPredictor)
    scheduler = build_scheduler()
    image_loss = ImageLoss(
        unet=unet,
        projection=predictor.projection,
        clip=clip,
        images=images,
        config=config.images.model_copy(update={"batch_size": config.motion.batch_size}),
        scheduler=scheduler,
    )
    clip_loss = ClipLoss(
        motion_unet=motion_unet,
        predictor=predictor,
        clip=clip,
        clips=clips,
        attention=install_attention(motion_unet),
        config=config.motion,
        scheduler=scheduler,
    )
    return JointLoss(image_loss=image_loss, clip_loss=clip_loss)


def motion_models(modules: nn.ModuleDict) -> MotionModels:
    """Take `build_joint`'s modules apart as they are shipped."""
    unet, motion_unet, predictor = (modules[name] for name in JOINT)
    assert isinstance(predictor, SemanticMotionPredictor)
    adapter = build_adapter(unet)
    adapter.load_state_dict(motion_state(motion_unet))
    return MotionModels(unet=unet, adapter=adapter, predictor=predictor)
