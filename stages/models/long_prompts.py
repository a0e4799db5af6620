"""Embeddings of prompts that are encoded in chunks, and of words with weights."""

from collections.abc import Sequence
from typing import Any

import torch

from storyreel.stages.models.prompt_words import Word, count_tokens, text_of


def apply_weights(embeds: torch.Tensor, chunk: Sequence[Word], tokenizer: Any) -> torch.Tensor:
    """The embeddings (L, D) of a chunk with its words weighed; their mean stays as it was."""
    if all(word.weight == 1.0 for word in chunk):
        return embeds
    weights = torch.ones(len(embeds), 1, dtype=embeds.dtype, device=embeds.device)
    for index, word in enumerate(chunk):
        start = count_tokens(tokenizer, text_of(chunk[:index])) - 1  # the end's token
        weights[start : count_tokens(tokenizer, text_of(chunk[: index + 1])) - 1] = word.weight
    weighed = embeds * weights
    return weighed * (embeds.mean() / weighed.mean())


def repeated(chunks: Sequence[torch.Tensor], count: int) -> torch.Tensor:
    """The chunks (L, D) one behind the other, repeated until there are `count`.

    Attention to the same tokens twice is attention to them once, so that a prompt beside a longer
    one gives the picture that it gives alone.
    """
    return torch.cat([chunks[index % len(chunks)] for index in range(count)])
