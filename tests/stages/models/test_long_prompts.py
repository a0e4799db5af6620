"""Prompts that are longer than a text encoder reads, and words with weights."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from storyreel.stages.models.config import ModelConfig
from storyreel.stages.models.loading import encode_prompts, load_pipeline
from storyreel.stages.models.prompt_words import (
    length_of,
    plain_text,
    read_words,
    split_words,
    text_of,
)

LONG = "a girl in a red coat walks in the park, " * 12


@pytest.fixture(scope="module")
def pipeline() -> object:
    return load_pipeline(ModelConfig(path="models/pocket"))


def test_weights_are_read_and_a_plain_bracket_is_a_word() -> None:
    words = read_words("a (red coat:1.4), ((park)) (he slept) <lora:x:0.8> BREAK a tree")
    assert [(word.text, round(word.weight, 2)) for word in words] == [
        ("a", 1.0), ("red", 1.4), ("coat,", 1.4), ("park", 1.21), ("(he", 1.0), ("slept)", 1.0),
        ("a", 1.0), ("tree", 1.0),
    ]  # fmt: skip
    assert [word.begins_chunk for word in words] == [False] * 6 + [True, False]
    assert plain_text("a (red coat:1.4)") == "a red coat"


@given(st.lists(st.sampled_from(["a", "tree,", "bb", "ccc."]), max_size=40), st.integers(3, 12))
def test_chunks_fit_and_lose_no_word(words: list[str], limit: int) -> None:
    read = read_words(" ".join(words))
    chunks = split_words(read, lambda text: len(text) <= limit)
    assert [word for chunk in chunks for word in chunk] == read
    assert all(len(text_of(chunk)) <= max(limit, 5) for chunk in chunks)


def test_a_long_prompt_is_encoded_to_its_end(pipeline: object) -> None:
    one = encode_prompts(pipeline, [LONG + "a dog"], [""])
    other = encode_prompts(pipeline, [LONG + "a cat"], [""])
    length = one.prompt_embeds.shape[2]
    assert length > 77
    assert not torch.equal(one.prompt_embeds[1, 0, -77:], other.prompt_embeds[1, 0, -77:])


def test_a_short_prompt_beside_a_long_one_is_its_own_embedding_again(pipeline: object) -> None:
    alone = encode_prompts(pipeline, ["a cat"], [""]).prompt_embeds[1, 0]
    beside = encode_prompts(pipeline, ["a cat", LONG], ["", ""]).prompt_embeds[1, 0]
    assert len(beside) % len(alone) == 0
    for part in beside.split(len(alone)):
        torch.testing.assert_close(part, alone, atol=1e-4, rtol=1e-4)


def test_a_weight_changes_the_tokens_of_its_words(pipeline: object) -> None:
    plain = encode_prompts(pipeline, ["a red coat"], [""]).prompt_embeds[1, 0]
    weighed = encode_prompts(pipeline, ["a (red:1.5) coat"], [""]).prompt_embeds[1, 0]
    ratio = (weighed / plain).mean(dim=1)
    assert ratio[2] / ratio[1] == pytest.approx(1.5, rel=1e-3)
    assert ratio[3] / ratio[1] == pytest.approx(1.0, rel=1e-3)


def test_a_tokenizer_that_knows_no_length_takes_that_of_its_encoder() -> None:
    class Tokenizer:
        model_max_length = int(1e30)

    class Config:
        max_position_embeddings = 64

    assert length_of(Tokenizer(), Config()) == 64
    assert length_of(Tokenizer()) == 77
