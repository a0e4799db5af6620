"""What the contrastive training asks of the encoders."""

import numpy as np
import torch

from storyreel.training.config import ClipConfig
from storyreel.training.data import CLASSES, NUM_COLUMNS
from storyreel.training.parts.clip import (
    NUM_CLASS_VALUES,
    TokenHeads,
    contrastive_loss,
    roughen,
    said_classes,
)
from storyreel.training.world.records import ACTIONS, CHARACTERS, PALETTE, PLACES


def test_matching_pairs_cost_less_than_mixed_up_ones() -> None:
    embeds = torch.eye(6)
    scale = torch.tensor(2.0)
    matched = contrastive_loss(embeds, embeds, scale)
    assert matched < contrastive_loss(embeds, embeds.roll(1, 0), scale)


def test_a_caption_is_not_asked_for_the_clothes_it_leaves_open() -> None:
    classes = torch.arange(len(CLASSES))[None]
    said = dict(zip(CLASSES, said_classes(classes)[0].tolist(), strict=True))
    assert said["character"] == 0
    assert said["time"] == CLASSES.index("time")
    assert said["top"] == said["bottom"] == said["hat"] == -1


def test_every_class_of_the_world_has_a_logit() -> None:
    most = max(len(ACTIONS), len(CHARACTERS), len(PALETTE), len(PLACES), NUM_COLUMNS)
    assert most <= NUM_CLASS_VALUES


def test_tokens_are_redrawn_where_their_patch_was() -> None:
    torch.manual_seed(0)
    heads = TokenHeads(ClipConfig(num_steps=1, batch_size=1, learning_rate=1e-3, image_dim=16))
    tokens = torch.randn(1, 17, 16)
    other = tokens.clone()
    other[:, 1 + 4 + 2] = 3 * torch.randn(16)
    changed = (heads.redraw(tokens) != heads.redraw(other)).any(dim=1)[0]
    rows, columns = torch.where(changed)
    assert set(rows.tolist()) == {4, 5, 6, 7}
    assert set(columns.tolist()) == {8, 9, 10, 11}


def test_roughened_captions_mostly_stay_and_repeat_with_the_seed() -> None:
    caption = "the fox in a red coat walks slowly through the dark forest at night"
    rough = [roughen(caption, np.random.default_rng(seed)) for seed in range(200)]
    assert rough == [roughen(caption, np.random.default_rng(seed)) for seed in range(200)]
    kept = [len(set(caption.split()) & set(text.split())) for text in rough]
    assert np.mean(kept) > 0.85 * len(set(caption.split()))
    assert len(set(rough)) > 100
