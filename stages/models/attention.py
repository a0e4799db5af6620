"""Consistent Self-Attention (StoryDiffusion, arXiv 2405.01434, section 3.1).

Panels read tokens of each other inside the self-attention of the UNet, so that they agree on what
their prompts leave open. The projections are the pretrained ones; nothing is trained. Legend::

    G  guidance branches (negative, positive), which never see each other
    P  panels (keyframes of a story, or frames of a clip)    M  panels of one view
    N  tokens of a panel      S  sampled tokens of a panel   K  panels that a panel reads
    H  heads                  D  channels of a head
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from einops import rearrange
from torch import Tensor

BLOCKS = ("down_blocks", "mid_block", "up_blocks")
"""The parts of a UNet that hold self-attention; the paper replaces it in all of them."""

Positions = Callable[[int], Tensor]
"""From N to the positions (P, S) of the sampled tokens of every panel."""

Bank = dict[str, tuple[Tensor, Tensor]]
"""Sampled keys and values of the references, each (G, R, H, S, D), by layer."""


@dataclass(frozen=True, slots=True)
class View:
    """Panels (M,) that attend together, each reading sampled tokens of K others: (M, K)."""

    panels: Tensor
    sources: Tensor

    def __post_init__(self) -> None:
        # Own tokens are all there already; sampled once more they would count twice.
        assert not (self.sources == self.panels[:, None]).any()


def consistent_self_attention(
    query: Tensor, key: Tensor, value: Tensor, positions: Tensor, views: Sequence[View]
) -> Tensor:
    """Equation 2: O_i = Attention(Q_i, K_Pi, V_Pi), P_i the own tokens and the samples S_i.

    Keys and values are projected before sampling, which is the same (the projection works on each
    token alone) and happens once for all readers. Where views overlap, their outputs are averaged
    (Algorithm 1).

    Args:
        query, key, value: (G, P, H, N, D).
        positions: (P, S), the sampled tokens of each panel, the same in each branch and head.
        views: which panels read which; together they contain every panel.

    Returns:
        (G, P, H, N, D).
    """
    # Projected first, sampled then: one projection serves all panels that read these tokens.
    sampled_key, sampled_value = _sample(key, positions), _sample(value, positions)
    total, count = torch.zeros_like(query), query.new_zeros(query.shape[1], 1, 1, 1)
    for view in views:
        total[:, view.panels] += _attend(
            query[:, view.panels],
            torch.cat([key[:, view.panels], _join(sampled_key[:, view.sources])], dim=-2),
            torch.cat([value[:, view.panels], _join(sampled_value[:, view.sources])], dim=-2),
        )
        count[view.panels] += 1
    return total / count


def _sample(tokens: Tensor, positions: Tensor) -> Tensor:
    """(G, P, H, N, D) -> (G, P, H, S, D)."""
    return torch.take_along_dim(tokens, positions.to(tokens.device)[None, :, None, :, None], dim=-2)


def _join(sampled: Tensor) -> Tensor:
    """(G, M, K, H, S, D) -> (G, M, H, K * S, D)."""
    return rearrange(sampled, "g m k h s d -> g m h (k s) d")


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    # The fused kernels take four axes only.
    flat_query, flat_key, flat_value = (x.flatten(0, 1) for x in (query, key, value))
    attended = F.scaled_dot_product_attention(flat_query, flat_key, flat_value)
    return attended.view(query.shape)


def all_to_all(num_panels: int) -> tuple[View, ...]:
    """Every panel reads every other one (equation 2 over the whole story)."""
    return (_together(range(num_panels)),)


def window(num_panels: int, size: int) -> tuple[View, ...]:
    """Tiles of `size` neighbouring panels, one panel apart (Algorithm 1); all-to-all if one fits.

    Attention memory depends on `size` alone; that of the UNet on how many panels a call has.
    """
    tiles = max(num_panels - size, 0) + 1
    return tuple(_together(range(t, min(t + size, num_panels))) for t in range(tiles))


def star(num_panels: int, num_references: int) -> tuple[View, ...]:
    """The first panels read each other, the later ones read only them."""
    references = range(min(num_references, num_panels))
    if num_panels <= num_references:
        return (_together(references),)
    return _together(references), _reading(range(num_references, num_panels), references)


def readers(num_panels: int, sources: Sequence[int]) -> tuple[View, ...]:
    """Every panel reads the `sources`, which read each other: frames that read both keyframes."""
    others = [panel for panel in range(num_panels) if panel not in sources]
    together = _together(sorted(set(sources)))
    return (together, _reading(others, sorted(set(sources)))) if others else (together,)


def anchored(views: Sequence[View], num_anchors: int) -> tuple[View, ...]:
    """`views` with anchors put before their panels: all panels read the anchors, they only self."""
    if num_anchors == 0:
        return tuple(views)
    anchors = torch.arange(num_anchors)
    shifted = (
        View(
            view.panels + num_anchors,
            torch.cat([anchors.expand(len(view.panels), -1), view.sources + num_anchors], dim=1),
        )
        for view in views
    )
    return _reading(anchors.tolist(), ()), *shifted


def _together(panels: Sequence[int]) -> View:
    sources = [[other for other in panels if other != panel] for panel in panels]
    return View(torch.tensor(list(panels)), torch.tensor(sources, dtype=torch.long))


def _reading(panels: Sequence[int], sources: Sequence[int]) -> View:
    rows = torch.tensor(list(sources), dtype=torch.long).expand(len(panels), -1)
    return View(torch.tensor(list(panels)), rows)


def sample_positions(
    num_panels: int,
    num_tokens: int,
    *,
    rate: float,
    seed: int,
    sampling: Literal["random", "grid"] = "random",
) -> Tensor:
    """Draw S = round(rate * N) different token positions of each panel, in rising order: (P, S).

    "random" draws for each panel alone, on the CPU so that every device renders alike; "grid"
    takes evenly spaced tokens in raster order, the same of each panel.
    """
    num_sampled = round(rate * num_tokens)
    if sampling == "grid":
        doubled = (2 * torch.arange(num_sampled) + 1) * num_tokens
        return (doubled // (2 * max(num_sampled, 1))).expand(num_panels, -1)
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(num_panels, num_tokens, generator=generator).argsort(dim=1, stable=True)
    return order[:, :num_sampled].sort(dim=1).values


class AttentionPlan(Protocol):
    """The tokens that the panels of one UNet call attend to."""

    num_panels: int

    def attend(self, layer: str, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(G, P, H, N, D) each -> (G, P, H, N, D)."""
        ...


class LockStep:
    """All panels are in this UNet call and read each other along `views`."""

    def __init__(self, views: Sequence[View], positions: Positions) -> None:
        self.num_panels = 1 + max(int(view.panels.max()) for view in views)
        self._views = views
        self._positions = positions

    def attend(
        self,
        layer: str,  # noqa: ARG002 - part of the protocol; these plans keep nothing by layer
        query: Tensor,
        key: Tensor,
        value: Tensor,
    ) -> Tensor:
        """Attend along the views."""
        positions = self._sampled(query.shape[-2])
        return consistent_self_attention(query, key, value, positions, self._views)

    def _sampled(self, num_tokens: int) -> Tensor:
        # `positions` may be those of a whole story of which these are the first panels.
        return self._positions(num_tokens)[: self.num_panels]


class RecordReferences(LockStep):
    """The references of a star: they attend, and leave their sampled tokens in `bank`."""

    def __init__(self, views: Sequence[View], positions: Positions) -> None:
        super().__init__(views, positions)
        self.bank: Bank = {}

    def attend(self, layer: str, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend along the views and record."""
        positions = self._sampled(query.shape[-2])
        self.bank[layer] = _sample(key, positions), _sample(value, positions)
        return super().attend(layer, query, key, value)


class ReadReferences:
    """Followers of a star: each reads the references' tokens of this step, and no other panel."""

    def __init__(self, bank: Bank, num_panels: int) -> None:
        self.num_panels = num_panels
        self._bank = bank

    def attend(self, layer: str, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend to the own tokens and to those in the bank."""
        sampled_key, sampled_value = (self._for_all(x) for x in self._bank[layer])
        return _attend(
            query,
            torch.cat([key, sampled_key], dim=-2),
            torch.cat([value, sampled_value], dim=-2),
        )

    def _for_all(self, sampled: Tensor) -> Tensor:
        """(G, R, H, S, D) -> (G, P, H, R * S, D)."""
        joined = rearrange(sampled, "g r h s d -> g 1 h (r s) d")
        return joined.expand(-1, self.num_panels, -1, -1, -1)


class StoryAttention:
    """Shared by the processors of one UNet: the plan of the UNet call that is running."""

    def __init__(self, layers: tuple[str, ...]) -> None:
        self.layers = layers
        self.plan: AttentionPlan | None = None

    @contextmanager
    def following(self, plan: AttentionPlan | None) -> Iterator[None]:
        """Inside, UNet calls follow `plan`; without a plan self-attention is plain."""
        self.plan = plan
        try:
            yield
        finally:
            self.plan = None


class ConsistentAttnProcessor:
    """A diffusers attention processor for self-attention layers; batches are (G * P, ...)."""

    def __init__(self, layer: str, story: StoryAttention) -> None:
        self.layer = layer
        self.story = story
        self._plain: Any = AttnProcessor2_0()

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Attend as the plan says; the contract is that of `AttnProcessor2_0`."""
        plan = self.story.plan
        if plan is None:
            plain: Tensor = self._plain(
                attn, hidden_states, encoder_hidden_states, attention_mask, temb
            )
            return plain
        assert encoder_hidden_states is None and attention_mask is None
        tokens = _tokens_in(attn, hidden_states, temb)
        query, key, value = _project(attn, tokens, plan.num_panels)
        attended = plan.attend(self.layer, query, key, value)
        tokens = rearrange(attended, "g p h n d -> (g p) n (h d)")
        return _tokens_out(attn, attn.to_out[1](attn.to_out[0](tokens)), hidden_states)


def _tokens_in(attn: Attention, hidden_states: Tensor, temb: Tensor | None) -> Tensor:
    if attn.spatial_norm is not None:
        hidden_states = attn.spatial_norm(hidden_states, temb)
    if hidden_states.ndim == 4:
        hidden_states = rearrange(hidden_states, "b c h w -> b (h w) c")
    if attn.group_norm is not None:
        hidden_states = attn.group_norm(hidden_states.transpose(1, 2)).transpose(1, 2)
    return hidden_states


def _project(attn: Attention, tokens: Tensor, num_panels: int) -> tuple[Tensor, Tensor, Tensor]:
    def heads(projected: Tensor) -> Tensor:
        pattern = "(g p) n (h d) -> g p h n d"
        return rearrange(projected, pattern, p=num_panels, h=attn.heads)

    query, key, value = heads(attn.to_q(tokens)), heads(attn.to_k(tokens)), heads(attn.to_v(tokens))
    query = query if attn.norm_q is None else attn.norm_q(query)
    key = key if attn.norm_k is None else attn.norm_k(key)
    return query, key, value


def _tokens_out(attn: Attention, tokens: Tensor, residual: Tensor) -> Tensor:
    if residual.ndim == 4:
        tokens = rearrange(tokens, "b (h w) c -> b c h w", h=residual.shape[2])
    if attn.residual_connection:
        tokens = tokens + residual
    return tokens / attn.rescale_output_factor


def install_attention(unet: Any, blocks: Sequence[str] = BLOCKS) -> StoryAttention:
    """Put our processor into the self-attention of `blocks`, and check that it is there.

    Do this last: loading an IP-Adapter, fusing projections and `UNetMotionModel.from_unet2d` put
    diffusers' own processors back.

    Args:
        unet: a `UNet2DConditionModel`, or a `UNetMotionModel` (its spatial attention only).
        blocks: some of `BLOCKS`.

    Raises:
        ValueError: there is no self-attention in these blocks.
    """
    layers = tuple(name for name in unet.attn_processors if _is_spatial_self(unet, name, blocks))
    if not layers:
        raise ValueError(f"layers {list(blocks)}: no self-attention there, allowed {list(BLOCKS)}")
    story = StoryAttention(layers)
    ours = {layer: ConsistentAttnProcessor(layer, story) for layer in layers}
    unet.set_attn_processor({**unet.attn_processors, **ours})
    assert_installed(unet, story)
    return story


def _is_spatial_self(unet: Any, name: str, blocks: Sequence[str]) -> bool:
    block, *path, _ = name.split(".")
    if block not in blocks or path[-1] != "attn1" or "motion_modules" in path:
        return False
    # With `only_cross_attention`, attn1 reads the text.
    return not unet.get_submodule(name.removesuffix(".processor")).is_cross_attention


def assert_installed(unet: Any, story: StoryAttention) -> None:
    """Check that every layer still has our processor.

    Raises:
        RuntimeError: something has replaced some of them since.
    """
    processors = unet.attn_processors
    lost = [name for name in story.layers if getattr(processors[name], "story", None) is not story]
    if lost:
        raise RuntimeError(f"Consistent Self-Attention was replaced in {len(lost)} layers: {lost}")


def uninstall_attention(unet: Any, story: StoryAttention) -> None:
    """Put diffusers' own processor back."""
    plain = {layer: AttnProcessor2_0() for layer in story.layers}
    unet.set_attn_processor({**unet.attn_processors, **plain})
