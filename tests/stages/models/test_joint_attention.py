"""Consistent Self-Attention in real diffusion transformers, against dense joint attention."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import FluxTransformer2DModel, SD3Transformer2DModel, UNet2DConditionModel
from torch import Tensor

from storyreel.stages.models.attention import (
    LockStep,
    View,
    all_to_all,
    readers,
    sample_positions,
    star,
    window,
)
from storyreel.stages.models.joint_attention import image_positions, install_joint_attention
from storyreel.stages.models.unet_attention import assert_installed

G, P, TEXT, SIDE = 2, 4, 5, 4
N = SIDE**2
VIEWS = {
    "all to all": all_to_all(P),
    "star": star(P, 2),
    "both ends": readers(P, (0, P - 1)),
    "one for each": tuple(View((panel,), ()) for panel in range(P)),
}


def far_from_uniform(transformer: Any) -> Any:
    """Fresh weights attend almost evenly, which would hide who reads whom."""
    for name, module in transformer.named_modules():
        if name.endswith(("norm_q", "norm_k", "norm_added_q", "norm_added_k")):
            module.weight.data *= 3
        if name.endswith(("norm1.linear", "norm1_context.linear", "norm.linear")):
            torch.nn.init.normal_(module.weight, std=0.2)
    return transformer.eval()


def tiny_flux() -> Any:
    torch.manual_seed(0)
    return far_from_uniform(
        FluxTransformer2DModel(
            in_channels=4,
            num_layers=2,
            num_single_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=24,
            pooled_projection_dim=12,
            axes_dims_rope=(4, 6, 6),
        )
    )


def tiny_sd3() -> Any:
    """As SD3.5: with normed keys, and with layers that attend to the image a second time."""
    torch.manual_seed(0)
    return far_from_uniform(
        SD3Transformer2DModel(
            sample_size=2 * SIDE,
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=3,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=24,
            caption_projection_dim=32,
            pooled_projection_dim=12,
            pos_embed_max_size=8,
            dual_attention_layers=(0,),
            qk_norm="rms_norm",
        )
    )


@torch.inference_mode()
def predict_flux(flux: Any, changed: int | None = None) -> Tensor:
    given = drawn((G * P, N, 4), changed)
    rows = torch.arange(SIDE).repeat_interleave(SIDE)
    places = torch.stack([torch.zeros(N), rows, torch.arange(SIDE).repeat(SIDE)], dim=1)
    predicted: Tensor = flux(
        hidden_states=given[0],
        encoder_hidden_states=given[1],
        pooled_projections=given[2],
        timestep=torch.full((G * P,), 0.5),
        img_ids=places,
        txt_ids=torch.zeros(TEXT, 3),
    ).sample
    return predicted


@torch.inference_mode()
def predict_sd3(sd3: Any, changed: int | None = None) -> Tensor:
    given = drawn((G * P, 4, 2 * SIDE, 2 * SIDE), changed)
    predicted: Tensor = sd3(
        hidden_states=given[0],
        encoder_hidden_states=given[1],
        pooled_projections=given[2],
        timestep=torch.full((G * P,), 500.0),
    ).sample
    return predicted


def drawn(shape: tuple[int, ...], changed: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, text and pooled text; the latents of one row of the batch may be others."""
    generator = torch.Generator().manual_seed(1)
    sizes = (shape, (G * P, TEXT, 24), (G * P, 12))
    latents, text, pooled = (torch.randn(size, generator=generator) for size in sizes)
    if changed is not None:
        latents[changed] += 1
    return latents, text, pooled


MODELS: dict[str, tuple[Callable[[], Any], Callable[..., Tensor], bool]] = {
    "flux": (tiny_flux, predict_flux, True),
    "sd3": (tiny_sd3, predict_sd3, False),
}


def sampled(num_tokens: int, rate: float) -> Tensor:
    return sample_positions(P, num_tokens, rate=rate, seed=2)


@contextmanager
def dense(views: tuple[View, ...], rate: float, *, text_first: bool) -> Iterator[None]:
    """Inside, diffusers' own processors attend to the whole story under a mask."""
    usual = F.scaled_dot_product_attention

    def masked(query: Tensor, key: Tensor, value: Tensor, **_: Any) -> Tensor:
        length = query.shape[2]
        start = length - N if text_first else 0
        shared = torch.zeros(P, length, dtype=torch.bool)
        shared.scatter_(1, sampled(N, rate) + start, value=True)
        panel = torch.arange(P).repeat_interleave(length)
        read = panel[:, None] == panel
        for view in views:
            reader, source = (
                torch.isin(panel, torch.tensor(one, dtype=torch.long))
                for one in (view.panels, view.sources)
            )
            read |= reader[:, None] & source & shared.flatten()
        story = [x.unflatten(0, (G, P)).transpose(1, 2).flatten(2, 3) for x in (query, key, value)]
        attended = usual(*story, attn_mask=read)
        return attended.unflatten(2, (P, length)).transpose(1, 2).flatten(0, 1)

    F.scaled_dot_product_attention = masked
    try:
        yield
    finally:
        F.scaled_dot_product_attention = usual


@pytest.mark.parametrize("rate", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("coverage", VIEWS)
@pytest.mark.parametrize("model", MODELS)
def test_it_is_dense_joint_attention_under_a_mask(model: str, coverage: str, rate: float) -> None:
    build, predict, text_first = MODELS[model]
    transformer, views = build(), VIEWS[coverage]
    plain = predict(transformer)
    with dense(views, rate, text_first=text_first):
        expected = predict(transformer)
    story = install_joint_attention(transformer)
    positions = image_positions(lambda num_tokens: sampled(num_tokens, rate), N, transformer)
    with story.following(LockStep(views, positions)):
        ours = predict(transformer)
    torch.testing.assert_close(ours, expected, atol=3e-6, rtol=1e-5)
    reads_others = rate > 0 and coverage != "one for each"
    assert ((ours - plain).abs().max() > 1e-3) == reads_others


@pytest.mark.parametrize("model", MODELS)
def test_without_a_plan_the_transformer_is_as_it_was(model: str) -> None:
    build, predict, _ = MODELS[model]
    transformer = build()
    plain = predict(transformer)
    story = install_joint_attention(transformer)
    assert_installed(transformer, story)
    assert torch.equal(predict(transformer), plain)


@pytest.mark.parametrize("model", MODELS)
def test_windows_keep_panels_apart_that_share_none_and_branches_always(model: str) -> None:
    build, predict, _ = MODELS[model]
    transformer = build()
    story = install_joint_attention(transformer)
    views = (View((0, 1), (0, 1)), View((2, 3), (2, 3)))
    positions = image_positions(lambda num_tokens: sampled(num_tokens, 0.5), N, transformer)
    with story.following(LockStep(views, positions)):
        before, after = predict(transformer), predict(transformer, changed=0)
    moved = [bool((a - b).abs().max() > 0) for a, b in zip(after, before, strict=True)]
    assert moved == [True, True] + [False] * (G * P - 2)


@pytest.mark.parametrize("model", MODELS)
def test_overlapping_windows_attend_in_a_transformer_too(model: str) -> None:
    build, predict, _ = MODELS[model]
    transformer = build()
    plain = predict(transformer)
    story = install_joint_attention(transformer)
    positions = image_positions(lambda num_tokens: sampled(num_tokens, 0.5), N, transformer)
    with story.following(LockStep(window(P, 2), positions)):
        ours = predict(transformer)
    assert ours.isfinite().all()
    assert (ours - plain).abs().max() > 1e-3


def test_a_family_that_is_not_known_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"UNet2DConditionModel: no known family.*Flux.*SD3"):
        install_joint_attention(UNet2DConditionModel.__new__(UNet2DConditionModel))
