"""The operator against its definition, written out as dense attention under a mask."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from storyreel.stages.models.attention import (
    LockStep,
    ReadReferences,
    RecordReferences,
    View,
    all_to_all,
    anchored,
    readers,
    sample_positions,
    star,
    window,
)

G, N, H, D = 2, 24, 3, 8
COVERAGES = {
    "one panel": all_to_all(1),
    "all to all": all_to_all(4),
    "windows": window(7, 3),
    "windows and references": anchored(window(5, 2), 2),
    "star": star(7, 3),
    "short star": star(2, 3),
    "frames and both keyframes": readers(6, (0, 5)),
    "panels that share characters": (
        View((0, 3), (0, 1, 3)),
        View((1,), (0, 1, 3)),
        View((2,), ()),
    ),
}
RATES = (0.0, 0.3, 0.5, 1.0)

Tokens = tuple[Tensor, Tensor, Tensor]


def tokens_of(num_panels: int, dtype: torch.dtype = torch.float32) -> Tokens:
    """Random query, key and value, (G, P * N, H, D) each, whose attention is far from uniform."""
    generator = torch.Generator().manual_seed(7)
    drawn = torch.randn(3, G, num_panels * N, H, D, generator=generator).to(dtype)
    return drawn[0] * 3, drawn[1], drawn[2]


def positions_of(num_panels: int, rate: float) -> Tensor:
    return sample_positions(num_panels, N, rate=rate, seed=5)


def panels_of(views: Sequence[View]) -> int:
    return 1 + max(panel for view in views for panel in view.panels)


def plan_of(views: Sequence[View], rate: float) -> LockStep:
    positions = positions_of(panels_of(views), rate)
    return LockStep(views, lambda _: positions)


def densely(views: Sequence[View], rate: float, tokens: Tokens) -> Tensor:
    """The mean over a panel's views of dense attention under the mask of that view."""
    num_panels = panels_of(views)
    sampled = torch.zeros(num_panels, N, dtype=torch.bool)
    sampled.scatter_(1, positions_of(num_panels, rate), value=True)
    panel_of = torch.arange(num_panels).repeat_interleave(N)
    query, key, value = (x.transpose(1, 2) for x in tokens)
    scores = query @ key.transpose(-1, -2) / D**0.5
    total, count = torch.zeros_like(query), torch.zeros(num_panels * N, 1)
    for view in views:
        reader = torch.isin(panel_of, torch.tensor(view.panels))
        source = torch.isin(panel_of, torch.tensor(view.sources, dtype=torch.long))
        read = (panel_of[:, None] == panel_of) | (source & sampled.flatten())
        attended = scores.masked_fill(~read, -torch.inf).softmax(dim=-1) @ value
        total += attended * reader[:, None]
        count += reader[:, None]
    return (total / count).transpose(1, 2)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("coverage", COVERAGES)
def test_every_coverage_and_rate_is_dense_attention_under_its_mask(
    coverage: str, rate: float
) -> None:
    views = COVERAGES[coverage]
    tokens = tokens_of(panels_of(views))
    ours = plan_of(views, rate).attend("layer", *tokens)
    torch.testing.assert_close(ours, densely(views, rate, tokens), atol=1e-5, rtol=1e-5)


def test_at_rate_one_it_is_attention_over_the_whole_story() -> None:
    tokens = tokens_of(4)
    query, key, value = (x.transpose(1, 2) for x in tokens)
    dense = (query @ key.transpose(-1, -2) / D**0.5).softmax(dim=-1) @ value
    ours = plan_of(all_to_all(4), 1.0).attend("layer", *tokens)
    torch.testing.assert_close(ours, dense.transpose(1, 2), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rate", RATES)
def test_followers_read_from_the_bank_what_they_would_read_in_one_call(rate: float) -> None:
    views, num_references = star(6, 2), 2
    tokens = tokens_of(6)
    positions = positions_of(6, rate)
    record = RecordReferences(all_to_all(num_references), lambda _: positions)
    first = record.attend("layer", *(x[:, : num_references * N] for x in tokens))
    followers = ReadReferences(record.bank, 4)
    rest = followers.attend("layer", *(x[:, num_references * N :] for x in tokens))
    expected = densely(views, rate, tokens)
    torch.testing.assert_close(torch.cat([first, rest], 1), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("coverage", COVERAGES)
def test_training_gets_the_gradient_of_dense_attention(coverage: str) -> None:
    """No fused kernel passes a gradient through the log-sum-exp; training must not lose it."""
    views = COVERAGES[coverage]

    def gradients(attend: object) -> list[Tensor]:
        tokens = tuple(x.double().requires_grad_() for x in tokens_of(panels_of(views)))
        assert callable(attend)
        attend(tokens).square().sum().backward()
        return [x.grad for x in tokens if x.grad is not None]

    ours = gradients(lambda tokens: plan_of(views, 0.5).attend("layer", *tokens))
    dense = gradients(lambda tokens: densely(views, 0.5, tokens))
    assert len(ours) == 3
    torch.testing.assert_close(ours, dense, atol=1e-10, rtol=1e-8)


def test_in_half_precision_merging_costs_no_more_than_the_rounding_of_the_result() -> None:
    views = all_to_all(4)
    exact = tokens_of(4, torch.bfloat16)
    ours = plan_of(views, 0.5).attend("layer", *exact)
    expected = densely(views, 0.5, tuple(x.float() for x in exact))  # type: ignore[arg-type]
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.float(), expected, atol=2e-2, rtol=2e-2)


def test_layers_of_the_same_size_share_what_is_prepared() -> None:
    """Indices are made once for each size of layer, not for each layer."""
    drawn = []

    def positions(num_tokens: int) -> Tensor:
        drawn.append(num_tokens)
        return sample_positions(4, num_tokens, rate=0.5, seed=0)

    plan = LockStep(all_to_all(4), positions)
    for layer in range(5):
        plan.attend(f"layer {layer}", *tokens_of(4))
    assert drawn == [N]


class WaitsFor(TorchDispatchMode):
    """Notes the operations that would make a CPU wait for a GPU, or move indices to one."""

    WAITING = ("_local_scalar_dense", "nonzero", "_to_copy", "masked_select", "is_nonzero")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in self.WAITING:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("coverage", COVERAGES)
def test_once_prepared_a_layer_waits_for_nothing_on_a_device(coverage: str) -> None:
    """A wait in each view, layer and step is what made GPUs take twice the counted time."""
    views = COVERAGES[coverage]
    plan, tokens = plan_of(views, 0.5), tokens_of(panels_of(views))
    with WaitsFor() as first:
        plan.attend("first", *tokens)
    with WaitsFor() as second:
        plan.attend("second", *tokens)
    assert "nonzero" in first.found
    assert second.found == []
