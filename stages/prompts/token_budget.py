"""The limit of a model's text encoders, counted by their own tokenizers; no weights are read."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import transformers
from transformers import PreTrainedTokenizerBase
from transformers.utils.hub import cached_file

from storyreel.stages.models.config import ModelConfig, resolve


class TokenBudget:
    """The number of tokens that a prompt may have; it must fit every text encoder of the model."""

    def __init__(self, tokenizers: Iterable[PreTrainedTokenizerBase]) -> None:
        self._tokenizers = tuple(tokenizers)

    def fits(self, text: str) -> bool:
        """True if every encoder reads the whole text, its special tokens included."""
        return all(_count(t, text) <= t.model_max_length for t in self._tokenizers)

    def num_fitting(self, words: list[str]) -> int:
        """Return how many of the words, from the first on, fit."""
        low, high = 0, len(words)
        while low < high:
            middle = (low + high + 1) // 2
            if self.fits(" ".join(words[:middle])):
                low = middle
            else:
                high = middle - 1
        return low


def load_tokenizers(model: ModelConfig) -> list[Any]:
    """Load the tokenizers of a pipeline's text encoders, one or two.

    Raises:
        ValueError: the pipeline has none.
    """
    path = resolve(model.path)
    index_file: Any = cached_file(path, "model_index.json", revision=model.revision)
    index: Mapping[str, Any] = json.loads(Path(index_file).read_text(encoding="utf-8"))
    names = [name for name in ("tokenizer", "tokenizer_2") if index.get(name, [None])[0]]
    if not names:
        raise ValueError(f"model {model.path}: has no tokenizer")
    return [
        getattr(transformers, index[name][1]).from_pretrained(
            path, subfolder=name, revision=model.revision
        )
        for name in names
    ]


def _count(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    # `verbose=False`: otherwise transformers warns of every text beyond the limit.
    return len(tokenizer(text, truncation=False, verbose=False)["input_ids"])
