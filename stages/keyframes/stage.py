"""The keyframes stage: the panels of one story in, published PNGs out."""

import io
import os
from dataclasses import dataclass
from typing import Any

import fsspec
import numpy as np
import torch
from einops import rearrange
from PIL import Image, ImageOps
from torch import Tensor

from stages.keyframes.attention import assert_installed, install_attention
from stages.keyframes.config import KeyframesConfig
from stages.keyframes.denoise import Denoiser, StoryLatents, chunks, draw_noise
from stages.models import PromptEmbeds, encode_prompts, load_pipeline
from stages.records import Keyframe, Panel
from stages.schedulers import build_scheduler
from stages.seeds import derive_seed
from stages.storage import Output

__all__ = ["KeyframesConfig", "KeyframesStage", "KeyframesUnit"]

BLACK = -1 + 1 / 255
"""Pixels are in [-1, 1]; below this they round to 0 of 255."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyframesUnit:
    """The panels of one story, at least one, in order, and its characters' reference images.

    Attention couples the panels, so a story is rendered as a whole. `reference_images` are local
    paths or fsspec URLs, distinct and in the order of the characters.
    """

    story_id: str
    panels: tuple[Panel, ...]
    reference_images: tuple[str, ...]


class KeyframesStage:
    """Renders the keyframes of a story; a stage that exists has its model loaded."""

    def __init__(self, *, output_url: str, config: KeyframesConfig) -> None:
        """Load the model and put Consistent Self-Attention into its UNet.

        Raises:
            ValueError: `width` or `height` does not suit the model.
        """
        use_deterministic_kernels()
        self._config = config
        self._output = Output(output_url)
        self._pipeline = load_pipeline(config.model)
        _check_size(self._pipeline, config)
        vae = self._pipeline.vae
        if vae.config.force_upcast and vae.dtype != torch.float32:
            vae.to(torch.float32)  # SDXL's VAE overflows in float16
        self._attention = install_attention(self._pipeline.unet, config.consistency.layers)
        scheduler = build_scheduler(config.scheduler, self._pipeline.scheduler)
        self._denoise = Denoiser(self._pipeline.unet, scheduler, self._attention, config)

    def __call__(self, unit: KeyframesUnit) -> tuple[Keyframe, ...]:
        """Render and publish the keyframes, `keyframes/{story_id}/{keyframe_index:04d}.png`.

        Raises:
            ValueError: a reference image cannot be read, or a keyframe came out black or not
                finite; the message names the story and the image.
        """
        assert_installed(self._pipeline.unet, self._attention)
        latents = self._denoise(self._start(unit), self._encode(unit))
        images = self._decode(latents)
        _check_images(images, unit)
        return tuple(
            self._publish(panel, image) for panel, image in zip(unit.panels, images, strict=True)
        )

    def _start(self, unit: KeyframesUnit) -> StoryLatents:
        seed = unit.panels[0].seed
        shape = self._latent_shape()
        seeds = [derive_seed(seed, "anchor", i) for i in range(len(unit.reference_images))]
        noise = torch.stack([draw_noise(shape, panel.seed) for panel in unit.panels])
        anchors = [self._encode_image(_read_image(path, unit)) for path in unit.reference_images]
        anchor_noise = [draw_noise(shape, anchor_seed) for anchor_seed in seeds]
        device, none = self._config.model.device, noise[:0]
        return StoryLatents(
            noise=noise.to(device),
            anchors=torch.stack(anchors) if anchors else none.to(device),
            anchor_noise=(torch.stack(anchor_noise) if anchors else none).to(device),
            seed=seed,
        )

    def _encode(self, unit: KeyframesUnit) -> PromptEmbeds:
        # A reference image has no words of its own: the model sees it without a prompt.
        blank = [""] * len(unit.reference_images)
        prompts = blank + [panel.prompt for panel in unit.panels]
        negative_prompts = blank + [panel.negative_prompt for panel in unit.panels]
        return encode_prompts(self._pipeline, prompts, negative_prompts)

    def _latent_shape(self) -> tuple[int, int, int]:
        factor = self._pipeline.vae_scale_factor
        channels = self._pipeline.unet.config.in_channels
        return channels, self._config.height // factor, self._config.width // factor

    @torch.inference_mode()
    def _encode_image(self, image: Image.Image) -> Tensor:
        vae = self._pipeline.vae
        fitted = ImageOps.fit(image, (self._config.width, self._config.height))
        pixels = torch.from_numpy(np.asarray(fitted, dtype=np.float32)) / 127.5 - 1
        batch = rearrange(pixels, "h w c -> 1 c h w").to(vae.device, vae.dtype)
        latents: Tensor = vae.encode(batch).latent_dist.mode()[0].float()
        shift, scale = _shift_and_scale(vae)
        return (latents - shift) * scale

    @torch.inference_mode()
    def _decode(self, latents: Tensor) -> Tensor:
        """(P, C, h, w) -> pixels (P, height, width, 3) in [-1, 1], on the CPU."""
        vae = self._pipeline.vae
        shift, scale = _shift_and_scale(vae)
        latents = (latents / scale + shift).to(vae.dtype)
        groups = chunks(range(len(latents)), self._config.batch_size)
        decoded = [vae.decode(latents[list(group)]).sample for group in groups]
        pixels = torch.cat(decoded)[: len(latents)].float().cpu()
        return rearrange(pixels, "p c h w -> p h w c")

    def _publish(self, panel: Panel, pixels: Tensor) -> Keyframe:
        image = ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        content = io.BytesIO()
        Image.fromarray(image.numpy()).save(content, format="PNG")
        path = f"keyframes/{panel.story_id}/{panel.keyframe_index:04d}.png"
        file = self._output.publish(path, content.getvalue())
        return Keyframe(
            story_id=panel.story_id,
            keyframe_index=panel.keyframe_index,
            path=file.path,
            size=file.size,
            sha256=file.sha256,
            width=image.shape[1],
            height=image.shape[0],
            seed=panel.seed,
        )


def use_deterministic_kernels() -> None:
    """Make this process render the same bytes every time on the same kind of hardware."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
    torch.use_deterministic_algorithms(mode=True)
    torch.backends.cudnn.benchmark = False


def _check_size(pipeline: Any, config: KeyframesConfig) -> None:
    multiple = pipeline.vae_scale_factor
    for name, value in (("width", config.width), ("height", config.height)):
        if value % multiple:
            raise ValueError(f"keyframes.{name}: {value}, allowed are multiples of {multiple}")


def _shift_and_scale(vae: Any) -> tuple[float, float]:
    return vae.config.shift_factor or 0.0, vae.config.scaling_factor


def _read_image(path: str, unit: KeyframesUnit) -> Image.Image:
    try:
        with fsspec.open(path, "rb") as file:
            return ImageOps.exif_transpose(Image.open(file)).convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        message = f"story {unit.story_id}: reference image {path}: cannot be read: {error}"
        raise ValueError(message) from error


def _check_images(images: Tensor, unit: KeyframesUnit) -> None:
    for panel, image in zip(unit.panels, images, strict=True):
        place = f"story {unit.story_id}: keyframe {panel.keyframe_index}"
        if not image.isfinite().all():
            raise ValueError(f"{place}: the model gave values that are not finite")
        if image.max() < BLACK:
            raise ValueError(f"{place}: the model gave a black image")
