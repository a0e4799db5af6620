"""Adds low-rank weights (LoRA, arXiv 2106.09685) to a model's own, once, when it is loaded.

Merged, they cost nothing in a step and need no package beside the model's.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from storyreel.stages.validation import shorten

DOWN, UP, BIAS = ".lora_A.weight", ".lora_B.weight", ".lora_B.bias"


@torch.no_grad()
def merge_lora(model: Any, tensors: Mapping[str, Tensor], *, scale: float) -> None:
    """Add `scale * B A` to the weight of every layer that the tensors name.

    Args:
        model: its layers are changed.
        tensors: `LAYER.lora_A.weight` (rank, in) and `LAYER.lora_B.weight` (out, rank), perhaps
            `LAYER.lora_B.bias` (out,), as diffusers names them; their alpha is in their values.
        scale: weight of what is added.

    Raises:
        ValueError: the model has no such layer, or one of another shape, or nothing is added.
    """
    layers = sorted(name.removesuffix(DOWN) for name in tensors if name.endswith(DOWN))
    known = {f"{layer}{kind}" for layer in layers for kind in (DOWN, UP, BIAS)}
    if not layers or (unknown := sorted(tensors.keys() - known)):
        found = unknown[0] if layers else "nothing"
        raise ValueError(f"holds {shorten(found)}, allowed are pairs LAYER{DOWN} and LAYER{UP}")
    modules = dict(model.named_modules())
    for layer in layers:
        down, up = tensors[f"{layer}{DOWN}"].float(), tensors[f"{layer}{UP}"].float()
        weight = getattr(modules.get(layer), "weight", None)
        if weight is None or weight.shape != (len(up), down.shape[1]):
            there = "no such layer" if weight is None else f"{tuple(weight.shape)} there"
            wanted = (len(up), down.shape[1])
            raise ValueError(f"{shorten(layer)}: {wanted}, but {there}: not of this model's family")
        weight += (scale * up @ down).to(weight)
        bias = tensors.get(f"{layer}{BIAS}")
        if bias is not None:
            modules[layer].bias += (scale * bias.float()).to(weight)
