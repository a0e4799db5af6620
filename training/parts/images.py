"""The image UNet: v-prediction in latent space, conditioned on text and, in part, image tokens.

Image tokens are trained in the very form in which the motion predictor's P_i arrive later:
projected and concatenated to the text tokens.

Axes: B batch, C latent channels, L text tokens, N image tokens, D cross-attention channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn

from storyreel.stages.motion.predictor import SemanticMotionPredictor
from storyreel.training.checkpoints import Trainer
from storyreel.training.config import ImagesConfig, TrainingConfig
from storyreel.training.data import FIGURE, Pictures
from storyreel.training.parts.clip import ClipModels

FIGURE_SIGMA = (0.1, 0.2)
"""Half the width and height that a figure's body takes, as shares of a picture's."""
TWIN_REACH = (0.17, 0.32)
"""Half the width and height that one of two figures takes, limbs included."""


def build_scheduler() -> Any:
    """The noise schedule of training and sampling; its last step is pure noise."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def build_unet(
    config: ImagesConfig, *, latent_channels: int, latent_size: int, cross_attention_dim: int
) -> Any:
    """A small UNet with self- and cross-attention at every level."""
    num_blocks = len(config.block_out_channels)
    return UNet2DConditionModel(
        sample_size=latent_size,
        in_channels=latent_channels,
        out_channels=latent_channels,
        down_block_types=("CrossAttnDownBlock2D",) * num_blocks,
        up_block_types=("CrossAttnUpBlock2D",) * num_blocks,
        block_out_channels=config.block_out_channels,
        layers_per_block=config.layers_per_block,
        attention_head_dim=config.num_heads,
        cross_attention_dim=cross_attention_dim,
        norm_num_groups=config.norm_num_groups,
        use_linear_projection=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedImages:
    """Single images as the frozen models see them."""

    latents: Tensor
    """(images, C, H, W), scaled."""
    tokens: Tensor
    """(images, N, token channels) of the image encoder."""
    pictures: Pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLoss:
    """The denoising loss of a random batch of single images."""

    unet: Any
    """`UNet2DConditionModel`."""
    projection: nn.Module
    """The predictor's projection into the cross-attention space."""
    clip: ClipModels
    images: EncodedImages
    config: ImagesConfig
    scheduler: Any

    def __call__(self, generator: torch.Generator) -> Tensor:
        """Draw a batch from the CPU generator; return its mean squared error."""
        device = self.unet.device
        count = self.images.pictures.num_training
        indices = torch.randint(count, (self.config.batch_size,), generator=generator)
        texts = draw_captions(
            self.images.pictures.captions, indices, self.config.text_dropout, generator
        )
        context = self.clip.encode_text(texts)
        if torch.rand((), generator=generator) < self.config.image_tokens_share:
            tokens = self.images.tokens[indices].float().to(device)
            context = torch.cat([context, self.projection(tokens)], dim=1)
        latents = self.images.latents[indices].float().to(device)
        timesteps = draw_timesteps(self.scheduler, len(indices), generator).to(device)
        noise = torch.randn(latents.shape, generator=generator).to(device)
        figures = [self.images.pictures.figures[index] for index in indices.tolist()]
        size = (latents.shape[-2], latents.shape[-1])
        shown = show_twins(figures, size, self.config.shown_share, generator).to(device)
        lower = (timesteps * torch.rand(len(indices), generator=generator).to(device)).long()
        noisy = torch.where(
            shown,
            self.scheduler.add_noise(latents, noise, lower),
            self.scheduler.add_noise(latents, noise, timesteps),
        )
        target = self.scheduler.get_velocity(latents, noise, timesteps)
        predicted = self.unet(noisy, timesteps, encoder_hidden_states=context).sample
        weights = weigh_figures(figures, size, self.config.figure_weight).to(device) * ~shown
        loss: Tensor = (weights * (predicted.float() - target).square()).mean()
        return loss


def weigh_figures(figures: list[list[list[float]]], size: tuple[int, int], weight: float) -> Tensor:
    """Loss weights of each place, (B, 1, H, W) with mean 1.

    Figures fill a small part of a picture, and their clothes, which consistency is about, a small
    part of them: an even loss is spent on places.

    Args:
        figures: `Pictures.figures` of each picture.
        size: (H, W).
        weight: of the middle of a figure, times that of a place where nobody is.
    """
    y, x = _middles(size)
    maps: Tensor = torch.ones(len(figures), 1, *size)
    for number, seen in enumerate(figures):
        for left, top, *_ in seen:
            across, down = (x - left) / FIGURE_SIGMA[0], (y - top) / FIGURE_SIGMA[1]
            near = torch.exp(-0.5 * (across[None, :].square() + down[:, None].square()))
            maps[number, 0] = torch.maximum(maps[number, 0], 1 + (weight - 1) * near)
    return maps / maps.mean()


def show_twins(
    figures: list[list[list[float]]],
    size: tuple[int, int],
    share: float,
    generator: torch.Generator,
) -> Tensor:
    """Places that are made less noisy than others, (B, 1, H, W) of bool.

    At one noise level two figures in the same clothes say little about each other: each is as
    hard to see as its twin. Where one of them is seen better, the loss of the other teaches
    self-attention to carry the clothes over.

    Args:
        figures: `Pictures.figures` of each picture.
        size: (H, W).
        share: of the pictures with twins in which one of the two is shown.
        generator: the CPU generator of the draws.
    """
    y, x = _middles(size)
    maps = torch.zeros(len(figures), 1, *size, dtype=torch.bool)
    for number, seen in enumerate(figures):
        chance, which = torch.rand(2, generator=generator).tolist()
        if chance < share and len(seen) == 2 and _alike(*seen):
            left, top, *_ = seen[int(which * 2)]
            across, down = (x - left).abs() < TWIN_REACH[0], (y - top).abs() < TWIN_REACH[1]
            maps[number, 0] = across[None, :] & down[:, None]
    return maps


def _middles(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The middles of the rows (H,) and columns (W,) of latents, as shares of a picture."""
    rows, columns = ((torch.arange(length) + 0.5) / length for length in size)
    return rows, columns


def _alike(first: list[float], second: list[float]) -> bool:
    """True if two rows of `FIGURE` are the same character in the same clothes."""
    kept = [FIGURE.index(name) for name in ("character", "top", "bottom", "hat")]
    return all(first[column] == second[column] for column in kept)


def draw_timesteps(scheduler: Any, count: int, generator: torch.Generator) -> Tensor:
    """(count,) training timesteps, spread evenly over the schedule to lower the variance."""
    offsets = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    total: int = scheduler.config.num_train_timesteps
    shuffled = offsets[torch.randperm(count, generator=generator)]
    return (shuffled * total).long().clamp(max=total - 1)


def draw_captions(
    captions: Sequence[Sequence[str]],
    indices: Tensor,
    dropout: float,
    generator: torch.Generator,
) -> list[str]:
    """One wording of each picture, empty for a share of them (classifier-free guidance)."""
    rng = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
    return [
        "" if rng.random() < dropout else str(rng.choice(captions[index]))
        for index in indices.tolist()
    ]


def build_predictor(config: TrainingConfig, clip: ClipModels) -> SemanticMotionPredictor:
    """An untrained predictor for the family's image encoder and UNet."""
    vision: Any = clip.image_encoder.config
    predictor: SemanticMotionPredictor = SemanticMotionPredictor(
        image_token_dim=vision.hidden_size,
        num_tokens=1 + (vision.image_size // vision.patch_size) ** 2,
        cross_attention_dim=clip.text_encoder.config.hidden_size,
        hidden_dim=config.predictor.hidden_dim,
        num_layers=config.predictor.num_layers,
        num_heads=config.predictor.num_heads,
    )
    return predictor


def train_images(
    config: TrainingConfig, clip: ClipModels, images: EncodedImages, directory: Path
) -> tuple[Any, nn.Module]:
    """Train or continue to train the UNet and the projection of image tokens."""
    unet = build_unet(
        config.images,
        latent_channels=images.latents.shape[1],
        latent_size=images.latents.shape[-1],
        cross_attention_dim=clip.text_encoder.config.hidden_size,
    )
    projection = build_predictor(config, clip).projection
    modules = nn.ModuleDict({"unet": unet, "projection": projection}).to(config.device)
    trainer = Trainer(modules, config.images, directory / "images.safetensors", seed=config.seed)
    loss = ImageLoss(
        unet=unet,
        projection=projection,
        clip=clip,
        images=images,
        config=config.images,
        scheduler=build_scheduler(),
    )
    averaged = trainer.run(loss)
    return averaged["unet"], averaged["projection"]
