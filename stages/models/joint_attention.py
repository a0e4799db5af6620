"""Puts Consistent Self-Attention into the joint attention of diffusion transformers (Flux, SD3).

There text and image are one sequence. A panel has its text and its image as its own tokens; shared
are image tokens alone, each rotated with the position that it has in its own panel, so that a place
in one picture matches the same place in another. Batches are (G * P, ...) as in the UNets, and the
plans are the same: `image_positions` tells them where in the sequence the image is. Legend as in
`storyreel.stages.models.attention`; a panel has L = text + N tokens here.
"""

from typing import Any

import torch
from diffusers import FluxTransformer2DModel, SD3Transformer2DModel
from diffusers.models.embeddings import apply_rotary_emb
from einops import rearrange
from torch import Tensor

from storyreel.stages.models.attention import Positions
from storyreel.stages.models.unet_attention import StoryAttention

TEXT_FIRST: dict[type, bool] = {FluxTransformer2DModel: True, SD3Transformer2DModel: False}
"""Whether the text comes before the image in a family's sequence."""


def image_positions(positions: Positions, num_image_tokens: int, transformer: Any) -> Positions:
    """Positions in the sequences of a transformer: of image tokens, never of text.

    Args:
        positions: of the sampled tokens of a picture, in a picture.
        num_image_tokens: N; a layer may have the image alone, or the text beside it.
        transformer: the one that is asked.
    """
    text_first = TEXT_FIRST[_family(transformer)]

    def in_sequence(num_tokens: int) -> Tensor:
        num_before = num_tokens - num_image_tokens if text_first else 0
        return positions(num_image_tokens) + num_before

    return in_sequence


class JointAttnProcessor:
    """A diffusers attention processor for layers whose sequence holds text and image."""

    def __init__(self, layer: str, story: StoryAttention, plain: Any, *, text_first: bool) -> None:
        self.layer = layer
        self.story = story
        self._plain = plain
        self._text_first = text_first

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Any:
        """Attend as the plan says; the contract is that of the family's own processor."""
        plan = self.story.plan
        if plan is None:
            rotary = () if image_rotary_emb is None else (image_rotary_emb,)
            given = (hidden_states, encoder_hidden_states, attention_mask, *rotary)
            return self._plain(attn, *given)
        assert attention_mask is None
        query, key, value = self._project(attn, hidden_states, encoder_hidden_states)
        if image_rotary_emb is not None:
            # Before sampling: a token keeps the position of its own panel wherever it is read.
            query, key = _rotated(query, image_rotary_emb), _rotated(key, image_rotary_emb)
        rows = [
            rearrange(x, "(g p) l h d -> g (p l) h d", p=plan.num_panels)
            for x in (query, key, value)
        ]
        attended = plan.attend(self.layer, *rows)
        tokens = rearrange(attended, "g (p l) h d -> (g p) l (h d)", p=plan.num_panels)
        return self._out(attn, tokens, encoder_hidden_states)

    def _project(
        self, attn: Any, image: Tensor, text: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value of the whole sequence, (G * P, L, H, D) each."""
        of_image = _heads(attn, (attn.to_q, attn.to_k, attn.to_v), image)
        normed = _normed(of_image, attn.norm_q, attn.norm_k)
        if text is None:
            return normed
        of_text = _heads(attn, (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj), text)
        text_normed = _normed(of_text, attn.norm_added_q, attn.norm_added_k)
        parts = (text_normed, normed) if self._text_first else (normed, text_normed)
        query, key, value = (torch.cat(pair, dim=1) for pair in zip(*parts, strict=True))
        return query, key, value

    def _out(self, attn: Any, tokens: Tensor, text: Tensor | None) -> Any:
        """Split the sequence again and project what each part of it attended to."""
        if text is None:
            # Flux's single blocks project later, together with their feed-forward part.
            return tokens if attn.pre_only else _project_out(attn, tokens)
        length = text.shape[1]
        of_text = tokens[:, :length] if self._text_first else tokens[:, -length:]
        of_image = tokens[:, length:] if self._text_first else tokens[:, :-length]
        if not attn.context_pre_only:
            of_text = attn.to_add_out(of_text)
        return _project_out(attn, of_image), of_text


def _rotated(tokens: Tensor, rotary: Any) -> Tensor:
    rotated: Any = apply_rotary_emb(tokens, rotary, sequence_dim=1)
    assert isinstance(rotated, Tensor)
    return rotated


def _heads(attn: Any, layers: tuple[Any, Any, Any], tokens: Tensor) -> tuple[Tensor, ...]:
    return tuple(rearrange(x(tokens), "b l (h d) -> b l h d", h=attn.heads) for x in layers)


def _normed(
    projected: tuple[Tensor, ...], norm_query: Any, norm_key: Any
) -> tuple[Tensor, Tensor, Tensor]:
    query, key, value = projected
    query = query if norm_query is None else norm_query(query)
    key = key if norm_key is None else norm_key(key)
    return query, key, value


def _project_out(attn: Any, tokens: Tensor) -> Tensor:
    projected: Tensor = attn.to_out[1](attn.to_out[0](tokens))
    return projected


def install_joint_attention(transformer: Any) -> StoryAttention:
    """Put our processor into every attention layer of a transformer.

    Raises:
        ValueError: it is of no family that is known here.
    """
    text_first = TEXT_FIRST[_family(transformer)]
    story = StoryAttention(tuple(transformer.attn_processors))
    ours = {
        layer: JointAttnProcessor(layer, story, plain, text_first=text_first)
        for layer, plain in transformer.attn_processors.items()
    }
    transformer.set_attn_processor(ours)
    return story


def _family(transformer: Any) -> type:
    for family in TEXT_FIRST:
        if isinstance(transformer, family):
            return family
    allowed = ", ".join(family.__name__ for family in TEXT_FIRST)
    raise ValueError(f"{type(transformer).__name__}: no known family, allowed are {allowed}")
