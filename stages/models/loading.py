"""Loads pretrained models: from a folder, from the package itself, or from the Hugging Face hub."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from diffusers import AutoencoderKL, DiffusionPipeline

from storyreel.stages.models.config import ModelConfig, PartConfig, resolve
from storyreel.stages.models.long_prompts import apply_weights, repeated
from storyreel.stages.models.prompt_words import (
    Word,
    count_tokens,
    length_of,
    plain_text,
    read_words,
    split_words,
    text_of,
)
from storyreel.stages.models.weights.lora import fuse_lora


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
        **_replaced(config),
    )
    for lora in config.loras:
        fuse_lora(pipeline, lora)
    _state_lengths(pipeline)
    # Decoding is mostly convolutions; on a CPU it takes a third less time in this layout.
    pipeline.vae.to(memory_format=torch.channels_last)
    return pipeline.to(config.device)


def _state_lengths(pipeline: Any) -> None:
    """Give tokenizers that do not know it the length that their text encoders read."""
    for tokenizer, encoder_config in _tokenizers(pipeline):
        tokenizer.model_max_length = length_of(tokenizer, encoder_config)


def _left_out(path: str, revision: str | None) -> dict[str, Any]:
    """Arguments of `from_pretrained` that leave out SD1.5's safety checker, which no loop calls."""
    index = DiffusionPipeline.load_config(path, revision=revision)
    # Families without one would warn of an unknown argument.
    if "safety_checker" not in index:
        return {}
    return {"safety_checker": None, "requires_safety_checker": False}


def _replaced(config: ModelConfig) -> dict[str, Any]:
    """Parts that come from elsewhere."""
    return {} if config.vae is None else {"vae": load_part(AutoencoderKL, config.vae, config)}


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

    Long prompts and those with weights are encoded in chunks; see `prompt_words`. An empty negative
    prompt is zeros where the pipeline asks for it, as SDXL was trained.
    """
    chunked = [_chunks(pipeline, text) for text in (*negative_prompts, *prompts)]
    plain = all(len(one) == 1 and all(w.weight == 1.0 for w in one[0]) for one in chunked)
    if plain:
        positive, negative, pooled = _encoded(
            pipeline, [*map(plain_text, prompts)], [*map(plain_text, negative_prompts)]
        )
        embeds = PromptEmbeds(prompt_embeds=torch.stack([negative, positive]), pooled=pooled)
    else:
        embeds = _encoded_chunks(pipeline, chunked)
    # diffusers does so only where no image has a negative prompt at all.
    if pipeline.config.get("force_zeros_for_empty_prompt", False):
        _zero_negatives(embeds, [row for row, text in enumerate(negative_prompts) if not text])
    return embeds


def prompt_chunks(
    pipeline: Any, prompts: list[str], negative_prompts: list[str]
) -> list[list[str]]:
    """The texts that `encode_prompts` encodes of each prompt, one behind the other."""
    chunked = [_chunks(pipeline, text) for text in (*negative_prompts, *prompts)]
    count = max(map(len, chunked))
    return [
        [text_of(chunks[index % len(chunks)]) for index in range(count)]
        for chunks in chunked[len(negative_prompts) :]
    ]


def _encoded(
    pipeline: Any, prompts: list[str], negative_prompts: list[str]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    encoded = pipeline.encode_prompt(
        prompt=prompts,
        device=pipeline.device,
        num_images_per_prompt=1,
        do_classifier_free_guidance=True,
        negative_prompt=negative_prompts,
    )
    pooled = torch.stack([encoded[3], encoded[2]]) if len(encoded) == 4 else None
    return encoded[0], encoded[1], pooled


def _tokenizers(pipeline: Any) -> list[tuple[Any, Any]]:
    """The tokenizers of the pipeline's text encoders, each with the encoder's configuration."""
    pairs = (("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2"))
    named = ((getattr(pipeline, one, None), getattr(pipeline, other, None)) for one, other in pairs)
    return [(t, encoder.config) for t, encoder in named if t is not None and encoder is not None]


def _chunks(pipeline: Any, text: str) -> list[list[Word]]:
    limits = [(t, length_of(t, config)) for t, config in _tokenizers(pipeline)]

    def fits(words: str) -> bool:
        return all(count_tokens(tokenizer, words) <= limit for tokenizer, limit in limits)

    return split_words(read_words(text), fits)


def _encoded_chunks(pipeline: Any, chunked: list[list[list[Word]]]) -> PromptEmbeds:
    """Encode texts in chunks: the negative prompts, then as many prompts."""
    flat = [chunk for chunks in chunked for chunk in chunks]
    # Each chunk is a prompt here; the negative prompts of this call are not used.
    encoded, _, pooled = _encoded(pipeline, [*map(text_of, flat)], [""] * len(flat))
    tokenizer = _tokenizers(pipeline)[0][0]
    weighed = [apply_weights(e, c, tokenizer) for e, c in zip(encoded, flat, strict=True)]
    count = max(map(len, chunked))
    ends = list(itertools.accumulate(map(len, chunked), initial=0))
    rows = torch.stack([repeated(weighed[a:b], count) for a, b in itertools.pairwise(ends)])
    num_prompts = len(chunked) // 2
    return PromptEmbeds(
        prompt_embeds=rows.reshape(2, num_prompts, *rows.shape[1:]),
        # Of a long prompt the first chunk sums up the picture.
        pooled=None if pooled is None else pooled[1][ends[:-1]].reshape(2, num_prompts, -1),
    )


def _zero_negatives(embeds: PromptEmbeds, rows: list[int]) -> None:
    embeds.prompt_embeds[0, rows] = 0
    if embeds.pooled is not None:
        embeds.pooled[0, rows] = 0
