"""Puts Consistent Self-Attention into the self-attention layers of a UNet of diffusers.

Batches are (G * P, ...): guidance branches, of each the panels of the call.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from einops import rearrange
from torch import Tensor

BLOCKS = ("down_blocks", "mid_block", "up_blocks")
"""The parts of a UNet that hold self-attention; the paper replaces it in all of them."""


class AttentionPlan(Protocol):
    """The tokens that the panels of one UNet call attend to."""

    num_panels: int

    def attend(self, layer: str, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(G, P * N, H, D) each -> (G, P * N, H, D)."""
        ...


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
        tokens = rearrange(attended, "g (p n) h d -> (g p) n (h d)", p=plan.num_panels)
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
    """(G * P, N, C) -> query, key and value, (G, P * N, H, D) each; none of them is copied."""

    def heads(projected: Tensor) -> Tensor:
        return rearrange(projected, "(g p) n (h d) -> g (p n) h d", p=num_panels, h=attn.heads)

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
