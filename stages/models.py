"""Loads pretrained models: from a folder, from the package itself, or from the Hugging Face hub."""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DiffusionPipeline

from stages.model_config import ModelConfig, resolve


def torch_dtype(config: ModelConfig) -> torch.dtype:
    """The configured number format as PyTorch calls it."""
    dtype: torch.dtype = getattr(torch, config.dtype)
    return dtype


def load_pipeline(config: ModelConfig) -> Any:
    """A text-to-image pipeline of diffusers (SD1.5, SD2.1 or SDXL); safetensors only.

    The pipeline only holds the parts and encodes prompts; the denoising loops are ours.
    """
    pipeline = DiffusionPipeline.from_pretrained(
        resolve(config.path),
        revision=config.revision,
        variant=config.variant,
        torch_dtype=torch_dtype(config),
        use_safetensors=True,
    )
    return pipeline.to(config.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptEmbeds:
    """Texts for the UNet, the guidance branches first: [negative, positive].

    prompt_embeds: (2, P, L, D); pooled: (2, P, D) of SDXL's second encoder, else None.
    """

    prompt_embeds: torch.Tensor
    pooled: torch.Tensor | None


@torch.inference_mode()
def encode_prompts(pipeline: Any, prompts: list[str], negative_prompts: list[str]) -> PromptEmbeds:
    """Encode P prompts and their P negative prompts with the pipeline's own text encoders."""
    options = {
        "device": pipeline.device,
        "num_images_per_prompt": 1,
        "do_classifier_free_guidance": True,
        "negative_prompt": negative_prompts,
    }
    encoded = pipeline.encode_prompt(prompt=prompts, **options)
    positive, negative = encoded[0], encoded[1]
    pooled = torch.stack([encoded[3], encoded[2]]) if len(encoded) == 4 else None
    return PromptEmbeds(prompt_embeds=torch.stack([negative, positive]), pooled=pooled)
