"""The contrastive text and image encoders, and the auxiliary heads that keep detail in the tokens.

Axes: B batch, L text tokens, N image tokens (class token first), C channels, K classes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from storyreel.training.checkpoints import Trainer
from storyreel.training.config import ClipConfig, TrainingConfig
from storyreel.training.data import CLASSES, NUM_COLUMNS, Pictures, to_tensor
from storyreel.training.parts.tokenizer import MAX_LENGTH, STORY_WORDS
from storyreel.training.world import ACTIONS, CHARACTERS, PALETTE, PLACES, TIMES

NUM_CLASS_VALUES = 1 + max(NUM_COLUMNS, *map(len, (CHARACTERS, ACTIONS, PLACES, TIMES, PALETTE)))
"""More than the values of any of `CLASSES`."""
COARSE_PIXELS = 4
"""Side of the thumbnail that each image token must be able to redraw."""
DROP_WORD, ADD_WORD = 0.08, 0.08
LONG_TEXT_SHARE = 0.1


def build_text_encoder(config: ClipConfig, tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    """A small CLIP text model of the tokenizer's vocabulary."""
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.text_dim,
            intermediate_size=4 * config.text_dim,
            num_hidden_layers=config.text_layers,
            num_attention_heads=config.num_heads,
            max_position_embeddings=MAX_LENGTH,
            projection_dim=config.projection_dim,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_image_encoder(config: ClipConfig) -> CLIPVisionModelWithProjection:
    """A small CLIP vision transformer."""
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=config.image_dim,
            intermediate_size=4 * config.image_dim,
            num_hidden_layers=config.image_layers,
            num_attention_heads=config.num_heads,
            image_size=config.image_size,
            patch_size=config.patch_size,
            projection_dim=config.projection_dim,
        )
    )


class TokenHeads(nn.Module):
    """Auxiliary heads: the encoders' outputs must predict classes and the colours of patches."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        num_tokens = 1 + (config.image_size // config.patch_size) ** 2
        self.norm = nn.LayerNorm(config.image_dim)
        self.image_classes = nn.Linear(
            num_tokens * config.image_dim, len(CLASSES) * NUM_CLASS_VALUES
        )
        self.text_classes = nn.Linear(config.projection_dim, len(CLASSES) * NUM_CLASS_VALUES)
        self.patches = nn.Linear(config.image_dim, 3 * COARSE_PIXELS**2)
        self.log_scale = nn.Parameter(torch.tensor(2.5))

    def classify_image(self, tokens: Tensor) -> Tensor:
        """(B, N, C) to logits (B, K, len(CLASSES))."""
        flat = rearrange(self.norm(tokens), "b n c -> b (n c)")
        logits: Tensor = self.image_classes(flat)
        return rearrange(logits, "b (d k) -> b k d", k=NUM_CLASS_VALUES)

    def classify_text(self, embeds: Tensor) -> Tensor:
        """(B, projection) to logits (B, K, len(CLASSES))."""
        logits: Tensor = self.text_classes(embeds)
        return rearrange(logits, "b (d k) -> b k d", k=NUM_CLASS_VALUES)

    def redraw(self, tokens: Tensor) -> Tensor:
        """(B, N, C) to thumbnails (B, 3, side, side)."""
        patches: Tensor = self.patches(self.norm(tokens[:, 1:]))
        side = int(patches.shape[1] ** 0.5)
        return rearrange(
            patches, "b (y x) (c p q) -> b c (y p) (x q)", y=side, p=COARSE_PIXELS, q=COARSE_PIXELS
        )


def resize(images: Tensor, size: int) -> Tensor:
    """(B, 3, H, W) to (B, 3, size, size), as the feature extractor does."""
    return F.interpolate(images, size=(size, size), mode="bicubic", antialias=True).clamp(-1, 1)


def roughen(caption: str, rng: np.random.Generator) -> str:
    """Drop and add words, so that the encoder bears ordinary sentences."""
    words: list[str] = []
    for word in caption.split():
        if rng.random() < ADD_WORD:
            words.append(STORY_WORDS[rng.integers(len(STORY_WORDS))])
        if rng.random() >= DROP_WORD:
            words.append(word)
    if rng.random() < LONG_TEXT_SHARE / 4:
        picks = rng.integers(len(STORY_WORDS), size=int(rng.integers(5, 25)))
        extra = [STORY_WORDS[pick] for pick in picks]
        words = [*extra, *words] if rng.random() < 0.5 else [*words, *extra]
    return " ".join(words)


def tokenize(tokenizer: CLIPTokenizer, texts: list[str], *, padding: str = "max_length") -> Tensor:
    """(B, L) token ids; L is 77, or the longest text's length with `padding="longest"`."""
    encoded = tokenizer(
        texts, padding=padding, truncation=True, max_length=MAX_LENGTH, return_tensors="pt"
    )
    ids = encoded["input_ids"]
    assert isinstance(ids, Tensor)
    return ids


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipModels:
    """The frozen encoders that later stages read."""

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModelWithProjection
    image_encoder: CLIPVisionModelWithProjection

    def encode_text(self, texts: list[str]) -> Tensor:
        """Per-token states (B, 77, text_dim), as a pipeline's `prompt_embeds`."""
        ids = tokenize(self.tokenizer, texts).to(self.text_encoder.device)
        with torch.no_grad():
            states = self.text_encoder(input_ids=ids).last_hidden_state
        assert isinstance(states, Tensor)
        return states

    def encode_image(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] to tokens (B, N, image_dim)."""
        vision: Any = self.image_encoder.config
        pixels = resize(images.to(self.image_encoder.device), vision.image_size)
        with torch.no_grad():
            tokens = self.image_encoder(pixel_values=pixels).last_hidden_state
        assert isinstance(tokens, Tensor)
        return tokens


def class_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """Cross entropy of (B, K, D) logits against (B, D) indices; -1 does not count."""
    return F.cross_entropy(logits.float(), classes, ignore_index=-1)


def contrastive_loss(text_embeds: Tensor, image_embeds: Tensor, log_scale: Tensor) -> Tensor:
    """CLIP's symmetric loss of (B, projection) pairs."""
    texts = F.normalize(text_embeds.float(), dim=-1)
    images = F.normalize(image_embeds.float(), dim=-1)
    logits = log_scale.clamp(max=4.6).exp() * texts @ images.T
    targets = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def said_classes(classes: Tensor) -> Tensor:
    """The classes that every caption names; clothes are left open in most."""
    return torch.cat([classes[:, :4], torch.full_like(classes[:, 4:], -1)], dim=1)


def train_clip(
    config: TrainingConfig,
    tokenizer: CLIPTokenizer,
    images: Pictures,
    clips: Pictures,
    directory: Path,
) -> ClipModels:
    """Train or continue to train both encoders; the heads are dropped at the end."""
    modules = nn.ModuleDict(
        {
            "text_encoder": build_text_encoder(config.clip, tokenizer),
            "image_encoder": build_image_encoder(config.clip),
            "heads": TokenHeads(config.clip),
        }
    ).to(config.device)
    trainer = Trainer(modules, config.clip, directory / "clip.safetensors", seed=config.seed)
    frames = clips.pixels[: clips.num_training].reshape(-1, *clips.pixels.shape[-3:])

    def batch_loss(generator: torch.Generator) -> Tensor:
        rng = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
        indices = rng.integers(images.num_training, size=config.clip.batch_size)
        texts = [roughen(str(rng.choice(images.captions[i])), rng) for i in indices]
        pixels = np.stack([images.pixels[i] for i in indices])
        extra = np.stack([frames[i] for i in rng.integers(len(frames), size=len(indices) // 4)])
        pictures = resize(to_tensor(np.concatenate([pixels, extra])), config.clip.image_size)
        classes = torch.from_numpy(images.classes[indices])
        ids = tokenize(tokenizer, texts, padding="longest")
        return clip_loss(
            modules,
            config.clip,
            ids.to(config.device),
            pictures.to(config.device),
            classes.to(config.device),
        )

    averaged = trainer.run(batch_loss).eval()
    text_encoder, image_encoder = averaged["text_encoder"], averaged["image_encoder"]
    assert isinstance(text_encoder, CLIPTextModelWithProjection)
    assert isinstance(image_encoder, CLIPVisionModelWithProjection)
    return ClipModels(tokenizer=tokenizer, text_encoder=text_encoder, image_encoder=image_encoder)


def clip_loss(
    modules: nn.ModuleDict, config: ClipConfig, ids: Tensor, pictures: Tensor, classes: Tensor
) -> Tensor:
    """Contrast pairs, classify both sides, redraw the patches.

    Args:
        ids: (B, L) captions of the first B pictures.
        pictures: (B + extra, 3, H, W); the extra ones are only redrawn.
        classes: (B, len(CLASSES)).
    """
    heads = modules["heads"]
    assert isinstance(heads, TokenHeads)
    text = modules["text_encoder"](input_ids=ids)
    image = modules["image_encoder"](pixel_values=pictures)
    tokens, count = image.last_hidden_state, len(ids)
    contrast = contrastive_loss(text.text_embeds, image.image_embeds[:count], heads.log_scale)
    image_classes = class_loss(heads.classify_image(tokens[:count]), classes)
    text_classes = class_loss(heads.classify_text(text.text_embeds), said_classes(classes))
    redrawn = heads.redraw(tokens).float()
    patches = F.mse_loss(redrawn, F.interpolate(pictures, redrawn.shape[-2:], mode="area"))
    classes_loss = config.class_weight * (image_classes + text_classes)
    return contrast + classes_loss + config.patch_weight * patches
