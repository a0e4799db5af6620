"""What Consistent Self-Attention adds to a step of the UNet, and how that grows with the story.

    python -m benchmarks.keyframes
    python -m benchmarks.keyframes --model sdxl --device cuda --dtype bfloat16 --panels 4 8

Of each number of panels: one UNet call with both guidance branches, panels apart, all reading all,
in windows, and with a star; each as a ratio to panels apart, beside the ratio of counted
operations. "sdxl" is a UNet of that size with random weights; 1024 x 1024 pixels.
"""

import argparse
import json
from collections.abc import Mapping
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from benchmarks.attention import times
from storyreel.stages.models.attention import (
    LockStep,
    View,
    all_to_all,
    sample_positions,
    star,
    window,
)
from storyreel.stages.models.config import PACKAGE_ROOT
from storyreel.stages.models.unet_attention import StoryAttention, install_attention

RATE = 0.5


def _count_attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    count: int = sdpa_flop_count(query, key, value)  # type: ignore[no-untyped-call]
    return count


COUNTED = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _count_attention}
"""PyTorch counts the kernels of GPUs only."""


def main() -> None:
    """Measure and print, one line of JSON for each number of panels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", default="pocket", choices=["pocket", "sdxl"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float16", "bfloat16"])
    parser.add_argument("--panels", type=int, nargs="+", default=[4, 8, 16])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    unet = (_pocket if asked.model == "pocket" else _sdxl)()
    unet = unet.to(asked.device, getattr(torch, asked.dtype)).eval()
    story = install_attention(unet)
    for num_panels in asked.panels:
        print(json.dumps(measure(unet, story, num_panels)), flush=True)  # noqa: T201


@torch.inference_mode()
def measure(unet: Any, story: StoryAttention, num_panels: int) -> dict[str, float | int]:
    """Seconds of a UNet call with panels apart, and what each coverage takes beside it."""
    given = _inputs(unet, 2 * num_panels)
    coverages: dict[str, tuple[View, ...]] = {
        "all_to_all": all_to_all(num_panels),
        "window": window(num_panels, min(num_panels, 5)),
        "star": star(num_panels, min(num_panels, 4)),
    }
    plans: dict[str, LockStep | None] = {"apart": None}
    plans |= {name: LockStep(views, _draw(num_panels)) for name, views in coverages.items()}

    def step(plan: LockStep | None) -> torch.Tensor:
        with story.following(plan):
            predicted: torch.Tensor = unet(**given).sample
        return predicted

    counted = {}
    for name, plan in plans.items():
        with FlopCounterMode(display=False, custom_mapping=COUNTED) as counter:
            step(plan)
        counted[name] = counter.get_total_flops()
    ways = {name: lambda plan=plan: step(plan) for name, plan in plans.items()}
    seconds = times(ways, unet.device, repeats=3)
    return {"panels": num_panels, "apart_s": round(seconds["apart"], 4)} | _ratios(seconds, counted)


def _ratios(seconds: Mapping[str, float], counted: Mapping[str, float]) -> dict[str, float]:
    """Of each coverage, to panels apart: seconds, and operations as counted."""
    ratios = {}
    for name in seconds:
        if name != "apart":
            ratios[name] = round(seconds[name] / seconds["apart"], 3)
            ratios[f"{name}_counted"] = round(counted[name] / counted["apart"], 3)
    return ratios


def _draw(num_panels: int) -> Any:
    return lambda num_tokens: sample_positions(num_panels, num_tokens, rate=RATE, seed=0)


def _inputs(unet: Any, batch: int) -> dict[str, Any]:
    config = unet.config
    options: dict[str, Any] = {"device": unet.device, "dtype": unet.dtype}
    side = config.sample_size
    given: dict[str, Any] = {
        "sample": torch.randn(batch, config.in_channels, side, side, **options),
        "timestep": torch.tensor(500, device=unet.device),
        "encoder_hidden_states": torch.randn(batch, 77, config.cross_attention_dim, **options),
    }
    if config.addition_embed_type == "text_time":
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        added = {"text_embeds": torch.randn(batch, pooled, **options)}
        given["added_cond_kwargs"] = {**added, "time_ids": torch.zeros(batch, 6, **options)}
    return given


def _pocket() -> Any:
    return UNet2DConditionModel.from_pretrained(PACKAGE_ROOT / "models" / "pocket" / "unet")


def _sdxl() -> Any:
    return UNet2DConditionModel(
        sample_size=128,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(320, 640, 1280),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )


if __name__ == "__main__":
    main()
