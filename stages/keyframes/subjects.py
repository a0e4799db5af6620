"""Consistent Self-Attention in which clothes travel and places stay.

A token of a character reads, beside its own panel, all tokens of the same character in the other
panels, for they are few; a token of the background reads its own panel only. A panel that nobody is
in reads sampled tokens, and is read by them, as without subjects. Legend as in
`storyreel.stages.models.attention`, and T tokens that are read.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from storyreel.stages.keyframes.masks import ANYBODY, NOBODY, Owners
from storyreel.stages.models.attention import LockStep, Positions, View


@dataclass(frozen=True, slots=True)
class Shared:
    """What panels have to read: key and value (G, P, H, N, D); owners and sampled (P, N)."""

    key: Tensor
    value: Tensor
    owners: Tensor
    sampled: Tensor

    def read(self, owner: int, sources: Tensor) -> tuple[Tensor, Tensor]:
        """Key and value, (G, H, T, D) each, of what a token of `owner` reads of the `sources`."""
        readable = may_read(owner, self.owners[sources], self.sampled[sources])
        source, token = readable.nonzero(as_tuple=True)
        key, value = (x[:, sources[source], :, token] for x in (self.key, self.value))
        return rearrange(key, "t g h d -> g h t d"), rearrange(value, "t g h d -> g h t d")


class SubjectLockStep(LockStep):
    """All panels are in this UNet call; along `views` each token reads its own subject."""

    def __init__(self, views: Sequence[View], positions: Positions, owners: Owners) -> None:
        super().__init__(views, positions)
        self._owners = owners

    def attend(
        self,
        layer: str,  # noqa: ARG002 - part of the protocol
        query: Tensor,
        key: Tensor,
        value: Tensor,
    ) -> Tensor:
        """Attend along the views; where they overlap, the mean."""
        shared = self.shared(key, value)
        total, count = torch.zeros_like(query), query.new_zeros(query.shape[1], 1, 1, 1)
        for view in self._views:
            for panel, sources in zip(view.panels.tolist(), view.sources, strict=True):
                own = query[:, panel], key[:, panel], value[:, panel]
                total[:, panel] += read_subjects(own, shared.owners[panel], shared, sources)
                count[panel] += 1
        return total / count

    def shared(self, key: Tensor, value: Tensor) -> Shared:
        """What the panels of this call have to read."""
        num_tokens = key.shape[-2]
        owners = self._owners(num_tokens)[: self.num_panels]
        sampled = torch.zeros_like(owners, dtype=torch.bool)
        sampled.scatter_(1, self._sampled(num_tokens), value=True)
        return Shared(key, value, owners, sampled)


class RecordSubjects(SubjectLockStep):
    """The references of a star: they attend, and leave what is to be read in `bank`, by layer."""

    def __init__(self, views: Sequence[View], positions: Positions, owners: Owners) -> None:
        super().__init__(views, positions, owners)
        self.bank: dict[str, Shared] = {}

    def attend(self, layer: str, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend along the views and record."""
        self.bank[layer] = self.shared(key, value)
        return super().attend(layer, query, key, value)


class ReadSubjects:
    """Followers of a star: each token reads its own subject in the references."""

    def __init__(self, bank: dict[str, Shared], owners: Owners, num_panels: int) -> None:
        self.num_panels = num_panels
        self._bank = bank
        self._owners = owners

    def attend(self, layer: str, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend to the own panel and to the bank."""
        shared, all_owners = self._bank[layer], self._owners(query.shape[-2])
        references = torch.arange(len(shared.owners))
        attended = [
            read_subjects(
                (query[:, panel], key[:, panel], value[:, panel]), owners, shared, references
            )
            for panel, owners in enumerate(all_owners)
        ]
        return torch.stack(attended, dim=1)


def read_subjects(
    panel: tuple[Tensor, Tensor, Tensor], owners: Tensor, shared: Shared, sources: Tensor
) -> Tensor:
    """One panel attends to its own tokens and, token by token, to what it may read of others.

    The tokens of one owner read the same keys, so that no mask is needed.

    Args:
        panel: query, key and value, (G, H, N, D) each.
        owners: (N,), whose the panel's tokens are.
        shared: what there is to read.
        sources: (K,), the panels that this one reads.

    Returns:
        (G, H, N, D).
    """
    query, key, value = panel
    attended = torch.empty_like(query)
    for owner in sorted(set(owners.tolist())):
        tokens = (owners == owner).nonzero()[:, 0].to(query.device)
        read_key, read_value = shared.read(owner, sources)
        attended[:, :, tokens] = F.scaled_dot_product_attention(
            query[:, :, tokens],
            torch.cat([key, read_key], dim=-2),
            torch.cat([value, read_value], dim=-2),
        )
    return attended


def may_read(owner: int, others: Tensor, sampled: Tensor) -> Tensor:
    """Which tokens a token of `owner` reads, by whose they are and whether they are sampled."""
    if owner == ANYBODY:
        return sampled
    same = (others == owner) & (owner != NOBODY)
    return same | ((others == ANYBODY) & sampled)
