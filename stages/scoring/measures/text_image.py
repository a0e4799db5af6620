"""Agreement of pictures with their texts, on embeddings of a CLIP.

Axes: B pairs, P pictures with a text each, E channels of CLIP's shared space.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

CLIP_SCORE_WEIGHT = 2.5
"""w of CLIPScore (Hessel et al. 2021, arXiv 2104.08718, eq. 1)."""


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """Cosines (...) in [-1, 1] of vectors (..., E); 0 where a vector is 0."""
    return F.cosine_similarity(first.float(), second.float(), dim=-1).clamp(-1, 1)


def clip_score(cosines: Tensor) -> Tensor:
    """CLIPScore w * max(cos, 0) in [0, 2.5], without the prefix that the original gives captions.

    The text-image similarities of the paper's Table 1 (0.61 to 0.66) are of this size; plain
    cosines of the public CLIPs are 0.2 to 0.35.
    """
    return CLIP_SCORE_WEIGHT * cosines.clamp(min=0)


def retrieved(image_embeds: Tensor, text_embeds: Tensor, texts: Sequence[str]) -> list[bool] | None:
    """R@1: whether each picture is nearer to its own text than to every other text of the story.

    Panels with equal texts (beats) are not told apart. A tie counts as wrong, so that pictures or
    texts which the encoder cannot tell apart win nothing.

    Args:
        image_embeds: (P, E).
        text_embeds: (P, E), of the texts.
        texts: P of them, row by row those of the pictures.

    Returns:
        One per picture; none where all texts are equal, so that there is nothing to choose.
    """
    if len(set(texts)) < 2:
        return None
    similarity = cosine(image_embeds[:, None], text_embeds[None, :])
    same = torch.tensor([[a == b for b in texts] for a in texts], device=similarity.device)
    own = similarity.diagonal()
    others = similarity.masked_fill(same, -torch.inf).amax(dim=1)
    hits: list[bool] = (own > others).tolist()
    return hits
