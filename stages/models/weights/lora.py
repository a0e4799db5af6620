"""Adds LoRA files (arXiv 2106.09685) to the weights of a pipeline, several one after the other.

Added once when the model is loaded, they cost nothing in a step. Files of diffusers, peft and kohya
are read; diffusers translates the names of kohya.
"""

import re
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from storyreel.stages.models.config import LoRAConfig, resolve

_NAMES = (
    (re.compile(r"^(.+)\.lora_A\.weight$"), "down"),
    (re.compile(r"^(.+)\.lora_B\.weight$"), "up"),
    (re.compile(r"^(.+?)(?:\.|_)lora(?:_linear_layer)?\.down\.weight$"), "down"),
    (re.compile(r"^(.+?)(?:\.|_)lora(?:_linear_layer)?\.up\.weight$"), "up"),
)
_PROJECTIONS = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}
"""What diffusers calls the layers of a text encoder's attention, and what transformers does."""


def fuse_lora(pipeline: Any, config: LoRAConfig) -> None:
    """Add `weight` * alpha / rank * up @ down to the layers that the file names.

    Raises:
        ValueError: the file holds something else, or layers that this pipeline does not have.
        OSError: there is no such file.
    """
    place = f"lora {config.weight_name}"
    tensors, alphas, metadata = pipeline.lora_state_dict(
        resolve(config.path),
        subfolder=config.subfolder,
        weight_name=config.weight_name,
        revision=config.revision,
        use_safetensors=True,
        unet_config=pipeline.unet.config,
        return_lora_metadata=True,
    )
    of_layers: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        layer, kind = _parse(name, place)
        of_layers[layer][kind] = tensor
    scales = {_layer(name.removesuffix(".alpha")): x for name, x in (alphas or {}).items()}
    for layer, parts in of_layers.items():
        if not {"down", "up"} <= set(parts):
            raise ValueError(f"{place}: {layer} lacks one of its two matrices")
        rank = len(parts["down"])
        given = (metadata or {}).get(f"{layer.split('.')[0]}.lora_alpha", rank)
        alpha = float(parts.get("alpha", scales.get(layer, given)))
        change = parts["up"].float().flatten(1) @ parts["down"].float().flatten(1)
        _add(_weight(pipeline, layer, place), config.weight * alpha / rank * change, layer, place)


def _parse(name: str, place: str) -> tuple[str, str]:
    """The layer that a tensor belongs to, and which of its tensors it is."""
    if name.endswith(".alpha"):
        return _layer(name.removesuffix(".alpha")), "alpha"
    for pattern, kind in _NAMES:
        if pattern.match(name):
            return _layer(name), kind
    raise ValueError(f"{place}: holds {name}, which is not part of a LoRA of this family")


def _layer(name: str) -> str:
    """The layer of a pipeline, from the name of one of its tensors."""
    for pattern, _ in _NAMES:
        if found := pattern.match(name):
            name = found[1]
    *path, last = name.replace(".processor.", ".").split(".")
    if last in _PROJECTIONS and path[-1] == "self_attn":
        last = _PROJECTIONS[last]
    return ".".join([*path, "to_out.0" if last == "to_out" else last])


def _weight(pipeline: Any, layer: str, place: str) -> Tensor:
    part, _, inner = layer.partition(".")
    model = getattr(pipeline, part, None)
    modules = {} if model is None else dict(model.named_modules())
    # transformers calls the inside of a text encoder without a projection by its own names.
    found = modules.get(inner) or modules.get(inner.removeprefix("text_model."))
    if found is None:
        raise ValueError(
            f"{place}: does not fit this model, which has no {layer}; it must belong to its family"
        )
    weight: Tensor = found.weight
    return weight


@torch.no_grad()
def _add(weight: Tensor, change: Tensor, layer: str, place: str) -> None:
    if change.numel() != weight.numel() or len(change) != len(weight):
        raise ValueError(
            f"{place}: does not fit this model: {layer} is {tuple(weight.shape)} there, the file"
            f" changes {tuple(change.shape)}"
        )
    # In float32: the sum is rounded once.
    summed = weight.float() + change.to(weight.device).view(weight.shape)
    weight.copy_(summed.to(weight.dtype))
