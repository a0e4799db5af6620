"""Loads pretrained models: from a folder, from the package itself, or from the Hugging Face hub."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from diffusers import DiffusionPipeline

from storyreel.stages.models.config import ModelConfig, PartConfig, resolve


def torch_dtype(config: ModelConfig) -> torch.dtype:
    """The configured number format as PyTorch calls it."""
    dtype: torch.dtype = getattr(torch, config.dtype)
    return dtype


def load_pipeline(config: ModelConfig) -> Any:
    """A text-to-image pipeline of diffusers (SD1.5, SD2.1 or SDXL); safetensors only.

    The pipeline only holds the parts and encodes prompts; the denoising loops are ours.
    """
    path = resolve(config.path)
    pipeline = DiffusionPipeline.from_pretrained(
        path,
        revision=config.revision,
        variant=config.variant,
        dtype=torch_dtype(config),
        use_safetensors=True,
        **_left_out(path, config.revision),
    )
    return pipeline.to(config.device)


def _left_out(path: str, revision: str | None) -> dict[str, Any]:
    """Arguments of `from_pretrained` that leave out SD1.5's safety checker, which no loop calls."""
    index = DiffusionPipeline.load_config(path, revision=revision)
    # Families without one would warn of an unknown argument.
    if "safety_checker" not in index:
        return {}
    return {"safety_checker": None, "requires_safety_checker": False}


def location(part: PartConfig, model: ModelConfig) -> dict[str, Any]:
    """Arguments of `from_pretrained` that say where `part` lies."""
    if part.path is None:
        return {
            "pretrained_model_name_or_path": resolve(model.path),
            "subfolder": part.subfolder or "",
            "revision": model.revision,
        }
    return {
        "pretrained_model_name_or_path": resolve(part.path),
        "subfolder": part.subfolder or "",
        "revision": part.revision,
    }


def load_part(kind: Any, part: PartConfig, model: ModelConfig) -> Any:
    """A model of class `kind` of diffusers or transformers, ready for inference; safetensors only.

    Raises:
        OSError: there is no such model at that place.
        ValueError: it lacks weights, which would be left as they were drawn at random.
    """
    place = location(part, model)
    loaded, info = kind.from_pretrained(
        **place,
        variant=part.variant,
        dtype=torch_dtype(model),
        use_safetensors=True,
        output_loading_info=True,
    )
    if missing := sorted(info["missing_keys"]):
        where = "/".join(filter(None, (place["pretrained_model_name_or_path"], place["subfolder"])))
        raise ValueError(f"{where}: no {kind.__name__}: lacks the weights {', '.join(missing)}")
    return loaded.to(model.device).eval()


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptEmbeds:
    """Conditions of P images, the guidance branches first: [negative, positive].

    prompt_embeds: (2, P, L, D); pooled: (2, P, D) of SDXL's second encoder, else None;
    image_tokens: (2, P, T, D) where the UNet holds an IP-Adapter, else None; control_images: of
    the images that a ControlNet guides, by their place among the P, (3, H, W) in [0, 1].
    """

    prompt_embeds: torch.Tensor
    pooled: torch.Tensor | None
    image_tokens: torch.Tensor | None = None
    control_images: Mapping[int, torch.Tensor] = field(default_factory=dict)

    def of(self, branches: Sequence[int]) -> "PromptEmbeds":
        """The conditions of some of the guidance branches."""
        rows = list(branches)
        return replace(
            self,
            prompt_embeds=self.prompt_embeds[rows],
            pooled=None if self.pooled is None else self.pooled[rows],
            image_tokens=None if self.image_tokens is None else self.image_tokens[rows],
        )


@torch.inference_mode()
def encode_prompts(pipeline: Any, prompts: list[str], negative_prompts: list[str]) -> PromptEmbeds:
    """Encode P prompts and their P negative prompts with the pipeline's own text encoders.

    An empty negative prompt is zeros where the pipeline asks for it, as SDXL was trained.
    """
    options = {
        "device": pipeline.device,
        "num_images_per_prompt": 1,
        "do_classifier_free_guidance": True,
        "negative_prompt": negative_prompts,
    }
    encoded = pipeline.encode_prompt(prompt=prompts, **options)
    positive, negative = encoded[0], encoded[1]
    pooled = torch.stack([encoded[3], encoded[2]]) if len(encoded) == 4 else None
    embeds = PromptEmbeds(prompt_embeds=torch.stack([negative, positive]), pooled=pooled)
    # diffusers does so only where no image has a negative prompt at all.
    if pipeline.config.get("force_zeros_for_empty_prompt", False):
        _zero_negatives(embeds, [row for row, text in enumerate(negative_prompts) if not text])
    return embeds


def _zero_negatives(embeds: PromptEmbeds, rows: list[int]) -> None:
    embeds.prompt_embeds[0, rows] = 0
    if embeds.pooled is not None:
        embeds.pooled[0, rows] = 0
