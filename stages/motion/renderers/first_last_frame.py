"""Wan 2.1 and 2.2: image-to-video of a first and a last frame (the `wan` models of diffusers).

The pipeline of diffusers denoises: it knows the two transformers of Wan 2.2 and the causal video
VAE. Prompts are encoded here, since the pipeline's own way needs a package that we do not ask for.

Axes: F frames, H height, W width, L text tokens, D their channels.
"""

from collections.abc import Sequence
from typing import Any, Self

import torch
from diffusers import AutoencoderKLWan, WanImageToVideoPipeline
from diffusers.utils.import_utils import is_accelerate_available
from PIL import Image
from torch import Tensor

from storyreel.stages.heartbeat import beat
from storyreel.stages.models.config import ModelConfig, PartConfig, resolve
from storyreel.stages.models.loading import location, torch_dtype
from storyreel.stages.motion.config import FirstLastFrameConfig, LoraConfig, MotionConfig
from storyreel.stages.motion.frames import to_pixels
from storyreel.stages.motion.renderer import Transition, check_alike
from storyreel.stages.motion.renderers.lora import merge_lora


class FirstLastFrameRenderer:
    """A Wan model that is given the first and the last frame."""

    def __init__(self, config: MotionConfig, parts: FirstLastFrameConfig) -> None:
        """Load the models.

        Raises:
            ValueError: the model makes videos of texts only, or a clip's size does not fit it.
        """
        self._pipeline = _load_pipeline(config.model, parts)
        self._config = config
        self._parts = parts
        for name, value in (("width", config.width), ("height", config.height)):
            if value is not None and value % self._multiple:
                raise ValueError(
                    f"motion.{name}: {value}, allowed are multiples of {self._multiple}"
                )

    @property
    def max_frames(self) -> int:
        """The most frames that the configuration says the model knows."""
        return self._parts.max_frames

    @property
    def _multiple(self) -> int:
        pipeline = self._pipeline
        transformer = pipeline.transformer or pipeline.transformer_2
        multiple: int = pipeline.vae_scale_factor_spatial * transformer.config.patch_size[-1]
        return multiple

    def smaller(self) -> Self:
        """The same renderer; its VAE, shared with this one, works in tiles from now on."""
        self._pipeline.vae.enable_tiling()
        return self

    def __call__(self, transitions: Sequence[Transition]) -> list[Tensor]:
        """Render (F, 3, H, W) each, one after the other: one clip fills a GPU."""
        check_alike(transitions)
        return [self._render(one) for one in transitions]

    @torch.inference_mode()
    def _render(self, transition: Transition) -> Tensor:
        height, width = transition.first.shape[-2:]
        if height % self._multiple or width % self._multiple:
            raise ValueError(
                f"keyframes are {width} x {height} pixels, both must be multiples of"
                f" {self._multiple}"
            )
        first, last = to_pixels(torch.stack([transition.first, transition.last]))
        own = transition.guidance_scale
        frames: Tensor = self._pipeline(
            image=Image.fromarray(first),
            last_image=Image.fromarray(last),
            prompt_embeds=self._encode(transition.text),
            negative_prompt_embeds=self._encode(transition.negative_prompt),
            height=height,
            width=width,
            num_frames=self._num_rendered(transition.num_frames),
            num_inference_steps=self._config.num_inference_steps,
            guidance_scale=self._config.guidance_scale if own is None else own,
            generator=torch.Generator().manual_seed(transition.seed),
            output_type="pt",
            callback_on_step_end=_beat,
            callback_on_step_end_tensor_inputs=[],
        ).frames[0]
        return _evenly_chosen(frames, transition.num_frames).float().cpu() * 2 - 1

    def _num_rendered(self, num_frames: int) -> int:
        """The VAE holds 1 + 4 n frames: the next such number."""
        factor: int = self._pipeline.vae_scale_factor_temporal
        return 1 + factor * -(-(num_frames - 1) // factor)

    def _encode(self, text: str) -> Tensor:
        """The tokens of a text (1, L, D), zero behind its end."""
        tokens = self._pipeline.tokenizer(
            " ".join(text.split()),
            padding="max_length",
            max_length=self._parts.max_text_tokens,
            truncation=True,
            return_tensors="pt",
        ).to(self._pipeline.device)
        encoder = self._pipeline.text_encoder
        encoded = encoder(tokens.input_ids, tokens.attention_mask).last_hidden_state
        embeds: Tensor = encoded * tokens.attention_mask[..., None]
        return embeds.to(encoder.dtype)


def _load_pipeline(model: ModelConfig, parts: FirstLastFrameConfig) -> Any:
    if not is_accelerate_available():
        raise ValueError(
            "motion.renderer.kind: first_last_frame, which needs the package accelerate: diffusers"
            " loads no transformer of Wan without it; pip install 'storyreel[wan]'"
        )
    # As diffusers' documentation of Wan advises: the VAE in full precision, the rest in bfloat16.
    vae = AutoencoderKLWan.from_pretrained(
        **location(PartConfig(subfolder="vae"), model), dtype=torch.float32, use_safetensors=True
    )
    pipeline = WanImageToVideoPipeline.from_pretrained(
        resolve(model.path),
        revision=model.revision,
        variant=model.variant or None,  # a profile can empty the name, not remove it
        vae=vae,
        dtype=torch_dtype(model),
        use_safetensors=True,
    )
    _check_family(pipeline, model)
    if parts.flow_shift is not None:
        scheduler = pipeline.scheduler
        shift = {"flow_shift": parts.flow_shift, "shift": parts.flow_shift}
        known = {name: value for name, value in shift.items() if name in scheduler.config}
        pipeline.scheduler = type(scheduler).from_config(scheduler.config, **known)
    if parts.lora is not None:
        _add_lora(pipeline, parts.lora, "transformer")
    if parts.low_noise_lora is not None:
        _add_lora(pipeline, parts.low_noise_lora, "transformer_2")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(model.device)


def _check_family(pipeline: Any, model: ModelConfig) -> None:
    transformer = pipeline.transformer or pipeline.transformer_2
    latents = pipeline.vae.config.z_dim
    if transformer.config.in_channels <= latents:
        raise ValueError(
            f"motion.model {model.path}: its transformer reads {transformer.config.in_channels}"
            f" channels, the {latents} of a clip alone; allowed are image-to-video models, whose"
            " transformer also reads given frames"
        )


def _add_lora(pipeline: Any, lora: LoraConfig, name: str) -> None:
    transformer = getattr(pipeline, name)
    if transformer is None:
        raise ValueError(
            f"motion.renderer: {lora.weight_name} is for {name}, which the model does not have;"
            " `low_noise_lora` is for Wan 2.2 only"
        )
    tensors = pipeline.lora_state_dict(
        resolve(lora.path),
        subfolder=lora.subfolder,
        weight_name=lora.weight_name,
        revision=lora.revision,
        use_safetensors=True,
    )
    try:
        merge_lora(
            transformer,
            {key.removeprefix("transformer."): value for key, value in tensors.items()},
            scale=lora.scale,
        )
    except ValueError as error:
        raise ValueError(f"motion.renderer: {lora.weight_name}: {error}") from error


def _evenly_chosen(frames: Tensor, num_frames: int) -> Tensor:
    """`num_frames` of the frames (F, 3, H, W), the first and the last among them."""
    places = torch.linspace(0, len(frames) - 1, num_frames).round().long()
    return frames[places.to(frames.device)]


def _beat(_pipeline: Any, _step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
    beat()
    return tensors
