"""The image prompt adapter (IP-Adapter, arXiv 2308.06721) of the pocket UNet.

Cross-attention gets a second pair of projections that reads four tokens made of the image encoder's
embedding of a picture; the UNet and the encoders stay as they are. Prompts are crops and mirror
images of the picture to be drawn: they keep who is there and in which colours, not where.

Axes: B batch, E embedding channels, T tokens of an image, D cross-attention channels.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from diffusers.models.embeddings import ImageProjection
from safetensors.torch import save_file
from torch import Tensor, nn

from storyreel.training.checkpoints import Trainer
from storyreel.training.config import ImagePromptConfig, TrainingConfig
from storyreel.training.data import to_tensor
from storyreel.training.parts.clip import ClipModels, resize
from storyreel.training.parts.images import (
    EncodedImages,
    build_scheduler,
    draw_captions,
    draw_timesteps,
)

NUM_TOKENS = 4
"""T; the file format does not say it, its readers take four."""


def build_adapter(unet: Any, embedding_dim: int) -> nn.ModuleDict:
    """Put an untrained adapter that does nothing yet into the cross-attention of `unet`.

    Returns:
        `image_proj` and, by the number of the attention layer, `ip_adapter`: all that learns.
    """
    width: int = unet.config.cross_attention_dim
    layers = nn.ModuleDict()
    for index, name in enumerate(unet.attn_processors):
        if name.endswith("attn2.processor"):
            attn = unet.get_submodule(name.removesuffix(".processor"))
            layers[str(index)] = _beside(attn, width)
            attn.set_processor(layers[str(index)])
    projection = ImageProjection(embedding_dim, width, NUM_TOKENS)
    return nn.ModuleDict({"image_proj": projection, "ip_adapter": layers})


def _beside(attn: Any, width: int) -> IPAdapterAttnProcessor2_0:
    """Keys like those of the text; values of zero, so that training starts at the plain UNet."""
    processor: Any = IPAdapterAttnProcessor2_0(attn.inner_dim, width, num_tokens=(NUM_TOKENS,))
    processor.to_k_ip[0].weight.data.copy_(attn.to_k.weight)
    processor.to_v_ip[0].weight.data.zero_()
    adapter: IPAdapterAttnProcessor2_0 = processor
    return adapter


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePromptLoss:
    """The denoising loss of pictures that are prompted by views of themselves."""

    unet: Any
    """`UNet2DConditionModel`, frozen, with the adapter in it."""
    projection: nn.Module
    """(B, E) to (B, T, D)."""
    clip: ClipModels
    images: EncodedImages
    config: ImagePromptConfig
    scheduler: Any

    def __call__(self, generator: torch.Generator) -> Tensor:
        """Draw a batch from the CPU generator; return its mean squared error."""
        device, pictures = self.unet.device, self.images.pictures
        indices = torch.randint(
            pictures.num_training, (self.config.batch_size,), generator=generator
        )
        texts = draw_captions(pictures.captions, indices, self.config.text_dropout, generator)
        tokens = self.projection(self._embeds(indices, generator))
        context = self.clip.encode_text(texts), [tokens[:, None]]
        latents = self.images.latents[indices].float().to(device)
        timesteps = draw_timesteps(self.scheduler, len(indices), generator).to(device)
        noise = torch.randn(latents.shape, generator=generator).to(device)
        noisy = self.scheduler.add_noise(latents, noise, timesteps)
        target = self.scheduler.get_velocity(latents, noise, timesteps)
        predicted = self.unet(noisy, timesteps, encoder_hidden_states=context).sample
        return F.mse_loss(predicted.float(), target)

    def _embeds(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """(B, E); zeros, the adapter's empty image, for a share of them."""
        pixels = np.stack([self.images.pictures.pixels[index] for index in indices.tolist()])
        embeds = embed_images(self.clip, draw_views(to_tensor(pixels), self.config, generator))
        kept = torch.rand(len(indices), generator=generator) >= self.config.image_dropout
        return embeds * kept.to(embeds.device)[:, None]


def embed_images(clip: ClipModels, images: Tensor) -> Tensor:
    """(B, 3, H, W) in [-1, 1] to `image_embeds` (B, E), which IP-Adapters read."""
    vision: Any = clip.image_encoder.config
    pixels = resize(images.to(clip.image_encoder.device), vision.image_size)
    with torch.no_grad():
        embeds = clip.image_encoder(pixel_values=pixels).image_embeds
    assert isinstance(embeds, Tensor)
    return embeds


def draw_views(images: Tensor, config: ImagePromptConfig, generator: torch.Generator) -> Tensor:
    """Square crops of (B, 3, H, H), half of them mirrored, each scaled back to (B, 3, H, H)."""
    size = images.shape[-1]
    shares = torch.rand(len(images), 4, generator=generator).tolist()
    return torch.cat(
        [
            resize(_view(image, share, config.min_crop), size)
            for image, share in zip(images, shares, strict=True)
        ]
    )


def _view(image: Tensor, share: list[float], min_crop: float) -> Tensor:
    """One view (1, 3, side, side); `share` says how large, where, and whether mirrored."""
    size = image.shape[-1]
    side = round(size * (min_crop + (1 - min_crop) * share[0]))
    top, left = (round((size - side) * part) for part in share[1:3])
    crop = image[None, :, top : top + side, left : left + side]
    return crop.flip(-1) if share[3] < 0.5 else crop


def train_image_prompt(
    config: TrainingConfig, unet: Any, clip: ClipModels, images: EncodedImages, directory: Path
) -> nn.ModuleDict:
    """Train or continue to train an adapter for `unet`, which stays as it is."""
    unet = copy.deepcopy(unet).to(config.device).eval().requires_grad_(requires_grad=False)
    embedding_dim: int = clip.image_encoder.config.projection_dim
    adapter = build_adapter(unet, embedding_dim).to(config.device)
    path = directory / "image_prompt.safetensors"
    trainer = Trainer(adapter, config.image_prompt, path, seed=config.seed)
    loss = ImagePromptLoss(
        unet=unet,
        projection=adapter["image_proj"],
        clip=clip,
        images=images,
        config=config.image_prompt,
        scheduler=build_scheduler(),
    )
    return trainer.run(loss)


def export_image_prompt(adapter: nn.ModuleDict, directory: Path) -> Path:
    """Write the file that `load_ip_adapter` reads, as float16; it goes with the image encoder.

    Returns:
        The file, `image_prompt/ip-adapter_pocket.safetensors`.
    """
    path = directory / "image_prompt" / "ip-adapter_pocket.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({_published(k): v.half().cpu() for k, v in adapter.state_dict().items()}, path)
    return path


def _published(name: str) -> str:
    """Our name of a weight to that of the original implementation, which the format kept."""
    return name.replace("image_proj.image_embeds", "image_proj.proj").replace("_ip.0.", "_ip.")
