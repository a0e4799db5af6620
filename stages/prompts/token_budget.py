"""What a model's text encoders can read, by their own tokenizers; no weights are loaded."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import transformers
from transformers.utils.hub import cached_file

from storyreel.stages.models.config import ModelConfig, resolve
from storyreel.stages.models.prompt_words import (
    count_tokens,
    length_of,
    plain_text,
    read_words,
    split_words,
    text_of,
)

OPEN_VOCABULARY = 10_000
"""Tokens of a vocabulary from which on it is made for any text, as CLIP's 49,408 are.

A smaller one was made from the captions of a small family, so that it has their words as one token.
"""

_WORD = re.compile(r"[^\W\d_]+")


class TokenBudget:
    """How long a prompt may be: some chunks, each of which fits all encoders of the model."""

    def __init__(self, tokenizers: Iterable[Any], max_chunks: int = 1) -> None:
        self._tokenizers = tuple(tokenizers)
        self._max_chunks = max_chunks

    def fits(self, text: str) -> bool:
        """True if every encoder reads the whole text."""
        if self.fits_one(plain_text(text)):
            return True
        chunks = split_words(read_words(text), self.fits_one)
        if len(chunks) > self._max_chunks:
            return False
        return all(self.fits_one(text_of(chunk)) for chunk in chunks)

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

    def unknown_words(self, text: str) -> list[str]:
        """Return the words that a family with a small vocabulary was not trained with."""
        small = [t for t in self._tokenizers if len(t) < OPEN_VOCABULARY]
        words = dict.fromkeys(_WORD.findall(text.casefold()))
        return [word for word in words if any(len(t.tokenize(word)) > 1 for t in small)]

    def fits_one(self, text: str) -> bool:
        """True if every encoder reads the whole text at once."""
        return all(count_tokens(t, text) <= length_of(t) for t in self._tokenizers)


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
        _with_length(
            getattr(transformers, index[name][1]).from_pretrained(
                path, subfolder=name, revision=model.revision
            ),
            path,
            name,
            model.revision,
        )
        for name in names
    ]


def _with_length(tokenizer: Any, path: str, name: str, revision: str | None) -> Any:
    """The tokenizer, with the length that its encoder's configuration states if it has none."""
    encoder = name.replace("tokenizer", "text_encoder")
    file: Any = cached_file(
        path,
        f"{encoder}/config.json",
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
    )
    content = {} if file is None else json.loads(Path(file).read_text(encoding="utf-8"))
    tokenizer.model_max_length = length_of(tokenizer, SimpleNamespace(**content))
    return tokenizer
