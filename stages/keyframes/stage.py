"""The keyframes stage: the panels of one story in, published PNGs out."""

import io
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from einops import rearrange
from PIL import Image, ImageOps
from torch import Tensor

from storyreel.stages.heartbeat import beat
from storyreel.stages.keyframes.cast import Cast, cast_of
from storyreel.stages.keyframes.config import ConsistencyConfig, KeyframesConfig
from storyreel.stages.keyframes.control import ControlNetGuide, to_control_image
from storyreel.stages.keyframes.denoise import Denoiser, StoryLatents, chunks
from storyreel.stages.keyframes.image_prompt import ImagePrompt
from storyreel.stages.models.denoising import draw_noise, use_deterministic_kernels
from storyreel.stages.models.loading import (
    PromptEmbeds,
    encode_prompts,
    load_pipeline,
    prompt_chunks,
)
from storyreel.stages.models.schedulers import build_scheduler
from storyreel.stages.models.unet_attention import assert_installed, install_attention
from storyreel.stages.output.records import Keyframe, Panel
from storyreel.stages.output.storage import Output
from storyreel.stages.pictures import read_reference
from storyreel.stages.seeds import derive_seed
from storyreel.stages.units import KeyframesUnit, ReferenceImage

__all__ = ["KeyframesConfig", "KeyframesStage", "KeyframesUnit", "ReferenceImage"]

BLACK = -1 + 1 / 255
"""Pixels are in [-1, 1]; below this they round to 0 of 255."""

BACKGROUNDS = {"reference": "white", "control": "black"}
"""What shows through a picture, by its kind: ControlNets learn lines that are drawn on black."""


class KeyframesStage:
    """Renders the keyframes of a story; a stage that exists has its model loaded."""

    def __init__(self, *, output_url: str, config: KeyframesConfig) -> None:
        """Load the model; put the image prompts, then Consistent Self-Attention into its UNet.

        Raises:
            ValueError: `width` or `height`, the image prompt adapter or the ControlNet does not
                suit the model.
        """
        use_deterministic_kernels()
        self._config = config
        self._output = Output(output_url)
        self._pipeline = load_pipeline(config.model)
        _check_size(self._pipeline, config)
        vae = self._pipeline.vae
        if vae.config.force_upcast and vae.dtype != torch.float32:
            vae.to(torch.float32)  # SDXL's VAE overflows in float16
        if config.free_u is not None:
            self._pipeline.unet.enable_freeu(**config.free_u.model_dump())
        self._image_prompt = _load_image_prompt(self._pipeline, config)
        self._attention = install_attention(self._pipeline.unet, config.consistency.layers)
        scheduler = build_scheduler(config.scheduler, self._pipeline.scheduler)
        self._denoise = Denoiser(
            self._pipeline.unet,
            scheduler,
            self._attention,
            config,
            _load_control(self._pipeline, config),
        )
        self._degraded = False

    def smaller(self) -> "KeyframesStage":
        """The same stage on the same model, with less memory; its keyframes are `degraded`."""
        smaller = copy(self)
        smaller._config = self._config.model_copy(update={"batch_size": 1})
        smaller._denoise = self._denoise.smaller()
        smaller._degraded = True
        return smaller

    def __call__(self, unit: KeyframesUnit) -> tuple[Keyframe, ...]:
        """Render and publish the keyframes, `keyframes/{story_id}/{keyframe_index:04d}.png`.

        Raises:
            ValueError: a reference or control image cannot be read, the reference images are too
                many for a UNet call, or a keyframe came out black or not finite; the message names
                the story and the image.
        """
        assert_installed(self._pipeline.unet, self._attention)
        unit = _without_absent_characters(unit)
        _check_references_fit(unit, self._config.consistency)
        references = self._read_references(unit)
        images = self._render(unit, references, self._image_tokens(unit, references))
        _check_images(images, unit)
        return tuple(
            self._publish(panel, image) for panel, image in zip(unit.panels, images, strict=True)
        )

    def _read_references(self, unit: KeyframesUnit) -> list[Image.Image]:
        """The whole pictures, at a keyframe's size."""
        size, colour = (self._config.width, self._config.height), BACKGROUNDS["reference"]
        pictures = [
            self._read_image("reference", image.path, unit) for image in unit.reference_images
        ]
        return [ImageOps.pad(picture, size, color=colour) for picture in pictures]

    def _read_image(self, kind: str, path: str, unit: KeyframesUnit) -> Image.Image:
        try:
            return read_reference(self._output, path, BACKGROUNDS[kind])
        except ValueError as error:
            message = f"story {unit.story_id}: {kind} image {path}: {error}"
            raise ValueError(message) from error

    def _image_tokens(
        self, unit: KeyframesUnit, references: Sequence[Image.Image]
    ) -> Tensor | None:
        """Image-prompt tokens of the reference images, then of the panels."""
        if self._image_prompt is None:
            return None
        if not references:
            leading = _leading_panel(unit)
            picture = self._render_alone(leading, unit, self._image_prompt)
            prompted = [(0,) if _follows(panel, leading) else () for panel in unit.panels]
            return self._image_prompt.tokens([picture], prompted)
        prompts: list[tuple[int, ...]] = [(index,) for index in range(len(references))]
        prompts += [_references_of(panel, unit) for panel in unit.panels]
        return self._image_prompt.tokens(references, prompts)

    def _render_alone(
        self, panel: Panel, unit: KeyframesUnit, image_prompt: ImagePrompt
    ) -> Image.Image:
        """Render a panel from its text alone."""
        alone = replace(unit, panels=(panel,))
        with image_prompt.off():
            images = self._render(alone, [], image_prompt.tokens([], [()]))
        _check_images(images, alone)
        return _to_image(images[0])

    def _render(
        self,
        unit: KeyframesUnit,
        references: Sequence[Image.Image],
        image_tokens: Tensor | None,
    ) -> Tensor:
        """Pixels (P, height, width, 3) in [-1, 1]; image tokens (2, references + P, T, D)."""
        embeds = replace(
            self._encode(unit.panels, len(references)),
            image_tokens=image_tokens,
            control_images=self._control_images(unit, len(references)),
        )
        cast = self._cast(unit)
        return self._decode(self._denoise(self._start(unit, references), embeds, cast))

    def _cast(self, unit: KeyframesUnit) -> Cast | None:
        if not self._config.consistency.subject:
            return None
        prompts = [panel.prompt for panel in unit.panels]
        negative_prompts = [panel.negative_prompt for panel in unit.panels]
        chunks = prompt_chunks(self._pipeline, prompts, negative_prompts)
        return cast_of(unit, chunks, self._pipeline.tokenizer)

    def _start(self, unit: KeyframesUnit, references: Sequence[Image.Image]) -> StoryLatents:
        seed = unit.panels[0].seed
        shape = self._latent_shape()
        seeds = [derive_seed(seed, "anchor", i) for i in range(len(references))]
        noise = torch.stack([draw_noise(shape, panel.seed) for panel in unit.panels])
        anchors = [self._encode_image(image) for image in references]
        anchor_noise = [draw_noise(shape, anchor_seed) for anchor_seed in seeds]
        device, none = self._config.model.device, noise[:0]
        return StoryLatents(
            noise=noise.to(device),
            anchors=torch.stack(anchors) if anchors else none.to(device),
            anchor_noise=(torch.stack(anchor_noise) if anchors else none).to(device),
            seed=seed,
        )

    def _encode(self, panels: Sequence[Panel], num_references: int) -> PromptEmbeds:
        # A reference image has no words of its own: the model sees it without a prompt.
        blank = [""] * num_references
        prompts = blank + [panel.prompt for panel in panels]
        negative_prompts = blank + [panel.negative_prompt for panel in panels]
        return encode_prompts(self._pipeline, prompts, negative_prompts)

    def _control_images(self, unit: KeyframesUnit, num_references: int) -> dict[int, Tensor]:
        """Control images of the panels that have one, by row after the reference images."""
        size, device = (self._config.width, self._config.height), self._config.model.device
        return {
            place: to_control_image(
                self._read_image("control", panel.control_image, unit), *size
            ).to(device)
            for place, panel in enumerate(unit.panels, start=num_references)
            if panel.control_image is not None
        }

    def _latent_shape(self) -> tuple[int, int, int]:
        factor = self._pipeline.vae_scale_factor
        channels = self._pipeline.unet.config.in_channels
        return channels, self._config.height // factor, self._config.width // factor

    @torch.inference_mode()
    def _encode_image(self, image: Image.Image) -> Tensor:
        """A picture of a keyframe's size -> clean latents (C, h, w)."""
        vae = self._pipeline.vae
        pixels = torch.from_numpy(np.asarray(image, dtype=np.float32)) / 127.5 - 1
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
        decoded = []
        for group in groups:
            # At once to the CPU: the device never holds more than one batch of pixels.
            decoded.append(vae.decode(latents[list(group)]).sample.float().cpu())
            beat()
        pixels = torch.cat(decoded)[: len(latents)]
        return rearrange(pixels, "p c h w -> p h w c")

    def _publish(self, panel: Panel, pixels: Tensor) -> Keyframe:
        image, content = _to_image(pixels), io.BytesIO()
        image.save(content, format="PNG")
        path = f"keyframes/{panel.story_id}/{panel.keyframe_index:04d}.png"
        file = self._output.publish(path, content.getvalue())
        return Keyframe(
            story_id=panel.story_id,
            keyframe_index=panel.keyframe_index,
            path=file.path,
            size=file.size,
            sha256=file.sha256,
            width=image.width,
            height=image.height,
            seed=panel.seed,
            degraded=self._degraded,
        )


def _check_size(pipeline: Any, config: KeyframesConfig) -> None:
    multiple = pipeline.vae_scale_factor
    for name, value in (("width", config.width), ("height", config.height)):
        if value % multiple:
            raise ValueError(f"keyframes.{name}: {value}, allowed are multiples of {multiple}")


def _load_image_prompt(pipeline: Any, config: KeyframesConfig) -> ImagePrompt | None:
    if config.image_prompt is None:
        return None
    return ImagePrompt(pipeline, config.image_prompt, config.model)


def _load_control(pipeline: Any, config: KeyframesConfig) -> ControlNetGuide | None:
    if config.controlnet is None:
        return None
    return ControlNetGuide(pipeline, config.controlnet, config.model)


def _without_absent_characters(unit: KeyframesUnit) -> KeyframesUnit:
    """Drop the reference images of characters that no panel shows."""
    present = {character for panel in unit.panels for character in panel.characters}
    images = tuple(image for image in unit.reference_images if image.character in present)
    return replace(unit, reference_images=images)


def _check_references_fit(unit: KeyframesUnit, consistency: ConsistencyConfig) -> None:
    if consistency.coverage != "window":
        return
    most = consistency.max_panels - consistency.window_of(len(unit.panels))
    if len(unit.reference_images) > most:
        raise ValueError(
            f"story {unit.story_id}: {len(unit.reference_images)} reference images, allowed are at"
            f" most {most}: they and a window of panels must fit"
            f" keyframes.consistency.max_panels = {consistency.max_panels}"
        )


def _leading_panel(unit: KeyframesUnit) -> Panel:
    """The panel whose picture prompts others: the first one that shows a character, if any."""
    return next((panel for panel in unit.panels if panel.characters), unit.panels[0])


def _follows(panel: Panel, leading: Panel) -> bool:
    """True if a panel shows a character of the leading one, or the leading one shows none."""
    return not leading.characters or not set(panel.characters).isdisjoint(leading.characters)


def _references_of(panel: Panel, unit: KeyframesUnit) -> tuple[int, ...]:
    """Indices of the reference images of this panel's characters."""
    characters = [image.character for image in unit.reference_images]
    return tuple(i for i, character in enumerate(characters) if character in panel.characters)


def _to_image(pixels: Tensor) -> Image.Image:
    """(height, width, 3) in [-1, 1] to 8 bits."""
    return Image.fromarray(((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy())


def _shift_and_scale(vae: Any) -> tuple[float, float]:
    return vae.config.shift_factor or 0.0, vae.config.scaling_factor


def _check_images(images: Tensor, unit: KeyframesUnit) -> None:
    for panel, image in zip(unit.panels, images, strict=True):
        place = f"story {unit.story_id}: keyframe {panel.keyframe_index}"
        if not image.isfinite().all():
            raise ValueError(f"{place}: the model gave values that are not finite")
        if image.max() < BLACK:
            raise ValueError(f"{place}: the model gave a black image")
