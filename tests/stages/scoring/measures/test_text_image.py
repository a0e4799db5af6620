"""Retrieval and CLIPScore on embeddings whose answer is known."""

import numpy as np
import pytest
import torch

from storyreel.stages.scoring.measures.text_image import clip_score, cosine, retrieved

PROMPTS = [f"prompt {place}" for place in range(5)]


def test_a_perfect_encoder_finds_every_prompt() -> None:
    assert retrieved(torch.eye(5), 3 * torch.eye(5), PROMPTS) == [True] * 5


def test_shuffled_prompts_are_found_as_often_as_chance_finds_them() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(400):
        order = rng.permutation(5).tolist()
        found += retrieved(torch.eye(5), torch.eye(5)[order], [PROMPTS[i] for i in order]) or []
    assert np.mean(found) == pytest.approx(1 / 5, abs=0.04)


def test_identical_pictures_find_one_prompt_at_most() -> None:
    texts = torch.nn.functional.normalize(torch.randn(5, 8, generator=_generator()))
    hits = retrieved(texts[2].repeat(5, 1), texts, PROMPTS)
    assert hits == [False, False, True, False, False]


def test_an_encoder_that_tells_nothing_apart_finds_nothing() -> None:
    assert retrieved(torch.ones(5, 4), torch.ones(5, 4), PROMPTS) == [False] * 5


def test_beats_of_one_panel_are_not_held_against_each_other() -> None:
    embeds = torch.eye(3)[[0, 0, 1]]
    assert retrieved(embeds, embeds, ["a", "a", "b"]) == [True] * 3


def test_a_story_of_one_prompt_has_nothing_to_choose_from() -> None:
    assert retrieved(torch.eye(2), torch.eye(2), ["a", "a"]) is None


def test_scores_of_unrelated_pictures_stop_at_zero_and_no_vector_gives_nan() -> None:
    cosines = cosine(
        torch.tensor([[1.0, 0], [1, 0], [0, 0]]), torch.tensor([[2.0, 0], [-1, 0]] * 1 + [[1, 0]])
    )
    assert cosines.tolist() == [1, -1, 0]
    assert clip_score(cosines).tolist() == [2.5, 0, 0]


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
