"""The autoencoder: 8 times smaller latents, trained on crops of the world's pictures."""

import copy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from storyreel.training.checkpoints import Trainer
from storyreel.training.config import TrainingConfig, VaeConfig
from storyreel.training.data import Pictures, to_tensor

NUM_SCALE_IMAGES = 512


def build_vae(config: VaeConfig, *, image_size: int) -> Any:
    """A small `AutoencoderKL` without attention."""
    num_blocks = len(config.block_out_channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * num_blocks,
        up_block_types=("UpDecoderBlock2D",) * num_blocks,
        block_out_channels=config.block_out_channels,
        layers_per_block=1,
        latent_channels=config.latent_channels,
        norm_num_groups=config.norm_num_groups,
        sample_size=image_size,
        mid_block_add_attention=False,
    )


def edges(images: Tensor) -> tuple[Tensor, Tensor]:
    """Differences between horizontal and vertical neighbours of (B, C, H, W)."""
    return images.diff(dim=-1), images.diff(dim=-2)


def pixel_loss(decoded: Tensor, images: Tensor, config: VaeConfig) -> Tensor:
    """L1 of pixels and of edges, of (B, 3, H, W) each."""
    pairs = zip(edges(decoded), edges(images), strict=True)
    edge_losses = [F.l1_loss(ours, theirs) for ours, theirs in pairs]
    return F.l1_loss(decoded, images) + config.edge_weight * torch.stack(edge_losses).sum()


def autoencoder_loss(
    vae: Any, images: Tensor, generator: torch.Generator, config: VaeConfig
) -> Tensor:
    """The loss of a reconstruction, plus a small pull of the latents to a unit normal.

    Args:
        images: (B, 3, H, W) in [-1, 1].
    """
    posterior = vae.encode(images).latent_dist
    mean, variance = posterior.mean.float(), posterior.var.float()
    noise = torch.randn(mean.shape, generator=generator).to(images.device)
    decoded: Tensor = vae.decode(mean + variance.sqrt() * noise).sample.float()
    divergence: Tensor = (mean.square() + variance - 1 - variance.log()) / 2
    return pixel_loss(decoded, images, config) + config.kl_weight * divergence.mean()


def random_crops(pictures: Pictures, size: int, count: int, generator: torch.Generator) -> Tensor:
    """(count, 3, size, size) crops of training images."""
    indices = torch.randint(pictures.num_training, (count,), generator=generator).tolist()
    height, width = pictures.pixels.shape[-3:-1]
    tops = torch.randint(height - size + 1, (count,), generator=generator).tolist()
    lefts = torch.randint(width - size + 1, (count,), generator=generator).tolist()
    places = zip(indices, tops, lefts, strict=True)
    return torch.stack(
        [to_tensor(pictures.pixels[i, y : y + size, x : x + size]) for i, y, x in places]
    )


@torch.inference_mode()
def latent_scale(vae: Any, pictures: Pictures) -> float:
    """One over the standard deviation of the latents, diffusers' `scaling_factor`."""
    images = to_tensor(pictures.pixels[:NUM_SCALE_IMAGES]).to(vae.device)
    return float(1 / vae.encode(images).latent_dist.mean.std())


def train_vae(config: TrainingConfig, pictures: Pictures, directory: Path) -> Any:
    """Train or continue to train the autoencoder; its `scaling_factor` is set."""
    vae = train_encoder(config, pictures, directory)
    return train_decoder(config, vae, pictures, directory)


def train_encoder(config: TrainingConfig, pictures: Pictures, directory: Path) -> Any:
    """Both halves, on crops; from here on the latents are fixed."""
    vae = build_vae(config.vae, image_size=config.world.image_size).to(config.device)
    modules = nn.ModuleDict({"vae": vae})
    trainer = Trainer(modules, config.vae, directory / "vae.safetensors", seed=config.seed)

    def batch_loss(generator: torch.Generator) -> Tensor:
        crops = random_crops(pictures, config.vae.crop_size, config.vae.batch_size, generator)
        return autoencoder_loss(vae, crops.to(config.device), generator, config.vae)

    averaged: Any = trainer.run(batch_loss)["vae"]
    averaged.register_to_config(scaling_factor=latent_scale(averaged, pictures))
    return averaged


def train_decoder(config: TrainingConfig, vae: Any, pictures: Pictures, directory: Path) -> Any:
    """The decoder alone, on whole pictures, where no crop's edge disturbs it."""
    modules = nn.ModuleDict({"vae": copy.deepcopy(vae)})
    decoder: Any = modules["vae"]
    decoder.requires_grad_(requires_grad=False)
    for part in (decoder.post_quant_conv, decoder.decoder):
        part.requires_grad_(requires_grad=True)
    path = directory / "decoder.safetensors"
    trainer = Trainer(modules, config.vae.decoder, path, seed=config.seed)

    def batch_loss(generator: torch.Generator) -> Tensor:
        count = (config.vae.decoder.batch_size,)
        indices = torch.randint(pictures.num_training, count, generator=generator).tolist()
        images = torch.stack([to_tensor(pictures.pixels[i]) for i in indices]).to(config.device)
        with torch.no_grad():
            latents = decoder.encode(images).latent_dist.mean
        decoded: Tensor = decoder.decode(latents).sample.float()
        return pixel_loss(decoded, images, config.vae)

    averaged: Any = trainer.run(batch_loss)["vae"]
    return averaged


def encode_latents(vae: Any, images: Tensor) -> Tensor:
    """(B, 3, H, W) in [-1, 1] to scaled latents (B, C, H/8, W/8)."""
    with torch.autocast(vae.device.type, torch.bfloat16):
        posterior = vae.encode(images.to(vae.device)).latent_dist
    latents: Tensor = posterior.mean.float() * vae.config.scaling_factor
    return latents
