"""Where in a panel its characters are, read from the UNet's own cross-attention.

A token of the background attends to the start token of the text, one of a figure to words; so the
figures are where little attention goes to the start token (Otsu's threshold, panel by panel). Where
several characters are in a panel, a token of a figure belongs to the one whose words draw most.
ConsiStory (arXiv 2402.03286) masks shared attention in the same spirit.

Axes: R images (reference images, then panels), C characters of the story, L tokens of the text,
h x w the latents, B images of a UNet call, H heads, N tokens of a layer.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from einops import rearrange
from torch import Tensor

from storyreel.stages.keyframes.cast import Box, Cast

NOBODY, ANYBODY = -1, -2
"""Owners that are no character: of the background, and of all of a panel that nobody is in."""

FIRST_PLACE = -3
"""Owner of the background of a story's first place; that of the next place is one less."""

Owners = Callable[[int], Tensor]
"""From N to whose the tokens of every image are, (R, N): a character's index, or one of those."""

SMOOTHED = 5
"""Side, in latents, of the square over which the characters' maps are averaged."""


class CrossAttentionMaps:
    """The attention to words that a story's panels have shown so far: (R, 1 + C, h, w)."""

    def __init__(self, unet: Any, cast: Cast, size: tuple[int, int]) -> None:
        self._layers = [
            module
            for name, module in unet.named_modules()
            if name.endswith(".attn2") and isinstance(module, Attention)
        ]
        self._cast = cast
        self._size = size
        self._total = torch.zeros(len(cast.present), 1 + cast.num_characters, *size)
        self._count = torch.zeros(len(cast.present), 1, 1, 1)

    @contextmanager
    def recording(self, rows: Sequence[int]) -> Iterator[None]:
        """Inside, one UNet call of the images `rows` (the positive branch alone) adds its maps."""
        weights = self._cast.words[list(rows)]
        maps: list[Tensor] = []

        def record(layer: Attention, given: tuple[Tensor, ...], options: dict[str, Any]) -> None:
            text = options["encoder_hidden_states"]
            # With an IP-Adapter in the UNet, image tokens come with the text.
            text = text[0] if isinstance(text, tuple) else text
            shares = attention_shares(layer, given[0], text)
            maps.append(self._resized(shares @ weights.to(shares)))

        with ExitStack() as hooks:
            for layer in self._layers:
                hook = layer.register_forward_pre_hook(record, with_kwargs=True)
                hooks.callback(hook.remove)
            yield
        # On the CPU, where every device thresholds alike. A call may hold its last panel twice.
        distinct = list(dict.fromkeys(rows))
        self._total[distinct] += torch.stack(maps).mean(dim=0)[: len(distinct)].cpu()
        self._count[distinct] += 1

    def _resized(self, maps: Tensor) -> Tensor:
        """The maps of a layer, (B, N, 1 + C), at the latents' size: (B, 1 + C, h, w)."""
        height, width = grid_of(maps.shape[1], self._size)
        grids = rearrange(maps.float(), "b (h w) c -> b c h w", h=height, w=width)
        return F.interpolate(grids, self._size, mode="bilinear")

    def owners(self) -> Owners:
        """Whose the tokens are, by what was recorded until now."""
        maps = self._total / self._count.clamp(min=1)
        in_images = zip(maps, self._cast.present, strict=True)
        finest = torch.stack([_owners_of(one, present) for one, present in in_images])
        for image, boxes, place in zip(finest, self._cast.boxes, self._cast.places, strict=True):
            _draw_boxes(image, boxes)
            if place is not None:
                image[image == NOBODY] = FIRST_PLACE - place
        # A reference image shows its character from edge to edge; it has no words to go by.
        for row, character in enumerate(self._cast.of_references):
            finest[row] = character

        @functools.cache  # layers of the same size share them
        def owners(num_tokens: int) -> Tensor:
            return coarser(finest, grid_of(num_tokens, self._size)).flatten(1)

        return owners


def attention_shares(layer: Attention, hidden_states: Tensor, text: Tensor) -> Tensor:
    """How a layer's cross-attention is shared out among the text's tokens, mean of the heads.

    Args:
        layer: of a UNet.
        hidden_states: (B, N, channels).
        text: (B, L, D).

    Returns:
        (B, N, L), of sum 1.
    """
    if layer.norm_cross:
        text = layer.norm_encoder_hidden_states(text)
    query = layer.head_to_batch_dim(layer.to_q(hidden_states))
    key = layer.head_to_batch_dim(layer.to_k(text))
    shares: Tensor = layer.get_attention_scores(query, key)
    return rearrange(shares, "(b h) n l -> b h n l", h=layer.heads).mean(dim=1)


def _owners_of(maps: Tensor, present: tuple[int, ...]) -> Tensor:
    """Whose the latents of one panel are: maps (1 + C, h, w) -> (h, w)."""
    if not present:
        return torch.full(maps.shape[1:], ANYBODY)
    figure = 1 - maps[0]
    who = torch.tensor(present)
    # Smoothed: a noun's own map holds little more than the head.
    drawn = F.avg_pool2d(
        maps[1:][who], SMOOTHED, stride=1, padding=SMOOTHED // 2, count_include_pad=False
    )
    return torch.where(figure > otsu(figure), who[drawn.argmax(dim=0)], NOBODY)


def _draw_boxes(owners: Tensor, boxes: Sequence[Box]) -> None:
    """Put characters where they were said to be, and nowhere else; owners (h, w) is changed."""
    height, width = owners.shape
    for character, _ in boxes:
        owners[owners == character] = NOBODY
    for character, box in boxes:
        rows = slice(math.floor(box.top * height), math.ceil(box.bottom * height))
        columns = slice(math.floor(box.left * width), math.ceil(box.right * width))
        owners[rows, columns] = character


def otsu(values: Tensor) -> float:
    """The threshold that parts values into two groups with the largest variance between them."""
    ordered = values.flatten().double().sort().values
    count = torch.arange(1, len(ordered))
    below = ordered.cumsum(0)[:-1]
    above = ordered.sum() - below
    rest = len(ordered) - count
    between = count * rest * (above / rest - below / count).square()
    return float(ordered[int(between.argmax())])


def grid_of(num_tokens: int, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of a layer's tokens: the latents' size, halved (rounded up) some times."""
    height, width = size
    while height * width > num_tokens:
        height, width = (height + 1) // 2, (width + 1) // 2
    assert height * width == num_tokens
    return height, width


def coarser(owners: Tensor, size: tuple[int, int]) -> Tensor:
    """Owners (R, h, w) on a smaller grid (R, *size): who owns most of what lies in a cell."""
    kinds = torch.tensor(sorted(set(owners.flatten().tolist())))
    shares = (owners[:, None] == kinds[:, None, None]).float()
    most = F.adaptive_avg_pool2d(shares, size).argmax(dim=1)
    return kinds[most]
