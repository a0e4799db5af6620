"""What a layer of Consistent Self-Attention costs beside one attention over the same keys.

    python -m benchmarks.attention --short
    python -m benchmarks.attention --device cuda --dtype bfloat16

Of each number of tokens and panels: the operator; its limit, one `scaled_dot_product_attention` in
which every panel has its keys side by side already; and dense attention of all panels under a mask,
where the mask is not too large to hold. All panels read all, at a sampling rate of one half.
Ratios are of one run. On a CPU the time is that of the process, in one thread.
"""

import argparse
import itertools
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from storyreel.stages.models.attention import (
    LockStep,
    all_to_all,
    sample_positions,
    sampled_mask,
)

RATE = 0.5
LARGEST_MASK = 2**30
"""Entries of a mask that is still tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Query, key and value, (G, P * N, H, D) each, and the positions (P, S) that are sampled."""

    query: Tensor
    key: Tensor
    value: Tensor
    positions: Tensor

    @property
    def num_panels(self) -> int:
        """P."""
        return len(self.positions)

    @property
    def num_tokens(self) -> int:
        """N."""
        return self.query.shape[1] // self.num_panels


def main() -> None:
    """Measure and print, one line of JSON for each number of tokens and panels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float16", "bfloat16"])
    parser.add_argument("--tokens", type=int, nargs="+", default=[1024, 4096])
    parser.add_argument("--panels", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--heads", type=int, help="of 64 channels (2; 10 on a GPU)")
    parser.add_argument("--short", action="store_true", help="1024 tokens, 4 and 8 panels")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    heads = asked.heads or (2 if asked.device == "cpu" else 10)
    sizes = itertools.product(asked.tokens, asked.panels)
    for num_tokens, num_panels in [(1024, 4), (1024, 8)] if asked.short else sizes:
        layer = draw(num_panels, num_tokens, heads, asked.device, getattr(torch, asked.dtype))
        print(json.dumps(measure(layer)), flush=True)  # noqa: T201


def draw(num_panels: int, num_tokens: int, heads: int, device: str, dtype: torch.dtype) -> Layer:
    """A layer of random tokens, of both guidance branches on a GPU and of one on a CPU."""
    branches = 1 if device == "cpu" else 2
    shape = (3, branches, num_panels * num_tokens, heads, 64)
    query, key, value = torch.randn(shape, device=device, dtype=dtype)
    positions = sample_positions(num_panels, num_tokens, rate=RATE, seed=0)
    return Layer(query=query, key=key, value=value, positions=positions)


@torch.inference_mode()
def measure(layer: Layer) -> dict[str, float | int | str | None]:
    """Seconds of the operator, of its limit and of the mask, and their ratios."""
    plan = LockStep(all_to_all(layer.num_panels), lambda _: layer.positions)
    ways: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: plan.attend("layer", layer.query, layer.key, layer.value),
        "limit": at_the_limit(layer),
    }
    if (layer.num_panels * layer.num_tokens) ** 2 <= _largest_mask(layer.query):
        ways["masked"] = under_a_mask(layer)
    outputs = [way().float() for way in ways.values()]
    furthest = max(float((other - outputs[0]).abs().max()) for other in outputs[1:])
    seconds = times(ways, layer.query.device)
    masked = seconds.get("masked")
    return {
        "device": _name(layer.query.device),
        "tokens": layer.num_tokens,
        "panels": layer.num_panels,
        **{f"{name}_s": round(value, 5) for name, value in seconds.items()},
        "ours_to_limit": round(seconds["ours"] / seconds["limit"], 3),
        "masked_to_ours": masked and round(masked / seconds["ours"], 2),
        "largest_difference": furthest,
    }


def _largest_mask(query: Tensor) -> int:
    # A CPU turns the mask into numbers of four bytes.
    return LARGEST_MASK // 4 if query.device.type == "cpu" else LARGEST_MASK


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def at_the_limit(layer: Layer) -> Callable[[], Tensor]:
    """One attention in which the keys of every panel are side by side before the clock starts."""

    def side_by_side(tokens: Tensor) -> Tensor:
        panels = rearrange(tokens, "g (p n) h d -> p g h n d", p=layer.num_panels)
        positions = layer.positions.to(tokens.device)
        sampled = [own[:, :, at] for own, at in zip(panels, positions, strict=True)]
        rows = [
            torch.cat([own, *sampled[:place], *sampled[place + 1 :]], dim=2)
            for place, own in enumerate(panels)
        ]
        return torch.stack(rows, dim=1).flatten(0, 1)

    key, value = side_by_side(layer.key), side_by_side(layer.value)
    query = rearrange(layer.query, "g (p n) h d -> (g p) h n d", p=layer.num_panels)
    query = query.contiguous()

    def attend() -> Tensor:
        attended = F.scaled_dot_product_attention(query, key, value)
        return rearrange(attended, "(g p) h n d -> g (p n) h d", p=layer.num_panels)

    return attend


def under_a_mask(layer: Layer) -> Callable[[], Tensor]:
    """Dense attention of all panels; each panel sees itself and what is sampled of the others."""
    panel = torch.arange(layer.num_panels).repeat_interleave(layer.num_tokens)
    sampled = sampled_mask(layer.positions, layer.num_tokens).flatten()
    mask = ((panel[:, None] == panel) | sampled).to(layer.query.device)
    query, key, value = (x.transpose(1, 2) for x in (layer.query, layer.key, layer.value))

    def attend() -> Tensor:
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return attended.transpose(1, 2)

    return attend


def times(
    ways: Mapping[str, Callable[[], Tensor]], device: torch.device, repeats: int = 5
) -> dict[str, float]:
    """The median seconds of each way, taken in turns so that other load meets them alike."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            taken[name].append(_seconds(way, device))
    return {name: median(values) for name, values in taken.items()}


def _seconds(way: Callable[[], Tensor], device: torch.device) -> float:
    if device.type != "cuda":
        start = time.process_time()
        way()
        return time.process_time() - start
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    before.record()
    way()
    after.record()
    after.synchronize()
    milliseconds: float = before.elapsed_time(after)
    return milliseconds / 1000


if __name__ == "__main__":
    main()
