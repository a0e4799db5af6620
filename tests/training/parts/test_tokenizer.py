"""The pocket family's vocabulary."""

import pytest
from transformers import CLIPTokenizer

from storyreel.training.config import TokenizerConfig
from storyreel.training.parts.tokenizer import MAX_LENGTH, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    """Trained, saved and loaded again, as a pipeline meets it."""
    path = tmp_path_factory.mktemp("tokenizer")
    captions = ["a fox in a red coat walks in the park at night"] * 30
    train_tokenizer(captions, TokenizerConfig(vocab_size=1200)).save_pretrained(path)
    return CLIPTokenizer.from_pretrained(path)


def test_words_of_the_world_are_one_token_each(tokenizer: CLIPTokenizer) -> None:
    assert len(tokenizer("A fox walks.").input_ids) == 1 + 4 + 1


@pytest.mark.parametrize("text", ["quixotic zebras", "Zürich in spring", "狐と森", "25 times!"])
def test_any_text_survives_in_pieces(tokenizer: CLIPTokenizer, text: str) -> None:
    ids = tokenizer(text).input_ids
    assert max(ids[1:-1]) < len(tokenizer) - 2, "an unknown word became a special token"
    decoded = tokenizer.decode(ids, skip_special_tokens=True)
    assert decoded.replace(" ", "") == text.lower().replace(" ", "")


def test_a_text_is_padded_and_cut_to_the_encoders_length(tokenizer: CLIPTokenizer) -> None:
    encoded = tokenizer(["a fox", "fox " * 200], padding="max_length", truncation=True)
    assert {len(ids) for ids in encoded.input_ids} == {MAX_LENGTH}
    assert all(ids[-1] == tokenizer.eos_token_id for ids in encoded.input_ids)
