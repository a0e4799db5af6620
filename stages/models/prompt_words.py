"""The words of a prompt, their weights, and the chunks that text encoders can read.

A long prompt is cut into chunks at the end of a clause where there is one. `(red coat:1.4)` weighs
these words, `((coat))` by 1.1 for each pair of brackets, `BREAK` begins a chunk. A single pair of
brackets without a number is prose.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

CLIP_LENGTH = 77
"""Tokens that a text encoder reads if neither it nor its tokenizer says how many."""
_HUGE = 100_000  # what transformers writes for "no limit" is larger
_WEIGHTED = re.compile(r"\((?P<words>[^():]+):(?P<weight>\d+(?:\.\d+)?)\)")
_STRESSED = re.compile(r"(?P<open>\({2,5})(?P<words>[^():]+)(?P<close>\){2,5})")
_MARK = re.compile(r"<(?:lora|lyco|hypernet|ti):[^<>]*>")
_CLAUSE_END = (",", ".", ";", ":", "!", "?")
MAX_WEIGHT = 2.0


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a prompt with its weight; `begins_chunk` after a `BREAK`."""

    text: str
    weight: float = 1.0
    begins_chunk: bool = False


def read_words(prompt: str) -> list[Word]:
    """The words of a prompt, without the marks of weights."""
    words: list[Word] = []
    end = 0
    text = _MARK.sub(" ", prompt)
    places = sorted(
        [*_WEIGHTED.finditer(text), *_STRESSED.finditer(text)], key=lambda found: found.start()
    )
    for found in places:
        if found.start() >= end:
            words += _plain(text[end : found.start()], 1.0)
            words += _plain(found["words"], _weight(found))
            end = found.end()
    words += _plain(text[end:], 1.0)
    return _joined(words)


def plain_text(prompt: str) -> str:
    """The words of a prompt as a reader sees them."""
    if not any(sign in prompt for sign in ("(", "<", "BREAK")):
        return prompt
    return " ".join(word.text for word in read_words(prompt))


def without_marks(prompt: str) -> str:
    """A prompt without the marks that are no words."""
    return _MARK.sub("", prompt) if "<" in prompt else prompt


def unknown_marks(prompt: str) -> list[str]:
    """Marks in a prompt that are no words and are left out, such as `<lora:sketch:0.8>`."""
    return _MARK.findall(prompt)


def split_words(words: Sequence[Word], fits: Callable[[str], bool]) -> list[list[Word]]:
    """Cut words into chunks that fit; a word that does not fit is a chunk of its own."""
    chunks: list[list[Word]] = []
    rest = list(words)
    while rest:
        length = max(1, _num_fitting(rest, fits))
        stop = next((i for i, w in enumerate(rest[1:length], 1) if w.begins_chunk), length)
        if stop == length < len(rest):
            stop = _end_of_clause(rest, length)
        chunks.append(rest[:stop])
        rest = rest[stop:]
    return chunks or [[]]


def text_of(chunk: Sequence[Word]) -> str:
    """The words of a chunk."""
    return " ".join(word.text for word in chunk)


def length_of(tokenizer: Any, encoder_config: Any = None) -> int:
    """The tokens that a text encoder reads, special ones included."""
    stated = int(min(tokenizer.model_max_length, 10**9))
    if stated < _HUGE:
        return stated
    of_encoder = getattr(encoder_config, "max_position_embeddings", None)
    return int(of_encoder or CLIP_LENGTH)


def count_tokens(tokenizer: Any, text: str) -> int:
    """The tokens of a text, special ones included."""
    # `verbose=False`: otherwise transformers warns of every text beyond the limit.
    return len(tokenizer(text, truncation=False, verbose=False)["input_ids"])


def _plain(text: str, weight: float) -> list[Word]:
    words: list[Word] = []
    begins = False
    for word in text.split():
        if word == "BREAK":
            begins = True
        else:
            words.append(Word(word, weight, begins))
            begins = False
    return words


def _joined(words: list[Word]) -> list[Word]:
    """Signs that stood behind a bracket, such as a comma, belong to the word before."""
    joined: list[Word] = []
    for word in words:
        if joined and re.fullmatch(r"[,.;:!?]+", word.text):
            last = joined[-1]
            joined[-1] = Word(last.text + word.text, last.weight, last.begins_chunk)
        else:
            joined.append(word)
    return joined


def _weight(found: re.Match[str]) -> float:
    groups = found.groupdict()
    if groups.get("weight"):
        return min(MAX_WEIGHT, float(groups["weight"]))
    pairs = min(len(groups["open"]), len(groups["close"]))
    return float(1.1**pairs)


def _num_fitting(words: Sequence[Word], fits: Callable[[str], bool]) -> int:
    low, high = 0, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        if fits(text_of(words[:middle])):
            low = middle
        else:
            high = middle - 1
    return low


def _end_of_clause(words: Sequence[Word], length: int) -> int:
    """Where to cut before `length`: behind the last clause that ends in the second half."""
    ends = (i for i in range(length, length // 2, -1) if words[i - 1].text.endswith(_CLAUSE_END))
    return next(ends, length)
