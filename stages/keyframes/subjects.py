"""Consistent Self-Attention in which clothes travel and places stay.

A token of a character reads, beside its own panel, all tokens of the same character in the other
panels, for they are few; a token of the background reads its own panel, and sampled tokens of the
background of other panels of the same place where the story states it. A panel that nobody is in
reads sampled tokens, and is read by them, as without subjects. Legend as in
`storyreel.stages.models.attention`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from storyreel.stages.keyframes.masks import ANYBODY, NOBODY, Owners
from storyreel.stages.models.attention import (
    LockStep,
    Positions,
    Reading,
    ReadReferences,
    RecordReferences,
    View,
    sampled_mask,
)


@dataclass(frozen=True, slots=True)
class Readable:
    """Tokens that others may read: where they are, of which panel, whose, and if sampled, (T,)."""

    rows: Tensor
    panels: Tensor
    owners: Tensor
    sampled: Tensor

    def by(self, owner: int, sources: Tensor) -> Tensor:
        """The rows that a token of `owner` reads in the panels `sources`.

        The tokens of one owner read the same keys, so that no mask is needed.
        """
        whole = (self.owners == ANYBODY) & self.sampled
        own = (self.owners == owner) & (owner != NOBODY)
        wanted = self.sampled if owner == ANYBODY else own | whole
        return self.rows[wanted & torch.isin(self.panels, sources)]


def is_readable(owners: Tensor, sampled: Tensor) -> Tensor:
    """Which tokens (P, N) anybody may read: all of a character, of the others the sampled ones."""
    return (owners >= 0) | sampled


def readable_tokens(owners: Tensor, sampled: Tensor) -> Readable:
    """What there is to read in panels, (P, N) each."""
    chosen = is_readable(owners, sampled)
    panels, tokens = chosen.nonzero(as_tuple=True)
    rows = panels * owners.shape[1] + tokens
    return Readable(rows, panels, owners[chosen], sampled[chosen])


def read_subjects(
    panel: int, owners: Tensor, readable: Readable, sources: Sequence[int]
) -> tuple[Reading, ...]:
    """The readings of one panel, which reads others: one for each owner of its tokens (N,)."""
    num_tokens, others = len(owners), torch.tensor(sources, dtype=torch.long)
    own = slice(panel * num_tokens, (panel + 1) * num_tokens)
    return tuple(
        Reading(
            num_groups=1,
            queries=panel * num_tokens + (owners == owner).nonzero()[:, 0],
            own=own,
            shared=readable.by(owner, others),
        )
        for owner in sorted(set(owners.tolist()))
    )


class SubjectLockStep(LockStep):
    """All panels are in this UNet call; along `views` each token reads its own subject."""

    def __init__(self, views: Sequence[View], positions: Positions, owners: Owners) -> None:
        super().__init__(views, positions)
        self._owners = owners

    def readings(self, num_tokens: int) -> tuple[Reading, ...]:
        """The readings in layers of so many tokens."""
        owners = self.owners(num_tokens)
        readable = readable_tokens(owners, sampled_mask(self.sampled(num_tokens), num_tokens))
        return tuple(
            reading
            for view in self.views
            for panel in view.panels
            for reading in read_subjects(panel, owners[panel], readable, view.others(panel))
        )

    def owners(self, num_tokens: int) -> Tensor:
        """Whose the tokens of this call are, (P, N)."""
        return self._owners(num_tokens)[: self.num_panels]


class RecordSubjects(SubjectLockStep, RecordReferences):
    """The references of a star: they attend, and leave what the followers read in `bank`."""

    def readable(self, num_tokens: int) -> Tensor:
        """True for the tokens that are recorded, (P, N)."""
        sampled = sampled_mask(self.sampled(num_tokens), num_tokens)
        return is_readable(self.owners(num_tokens), sampled)

    def recorded(self, num_tokens: int) -> Readable:
        """What is in the bank, by its place there."""
        sampled = sampled_mask(self.sampled(num_tokens), num_tokens)
        found = readable_tokens(self.owners(num_tokens), sampled)
        return replace(found, rows=torch.arange(len(found.rows)))


class ReadSubjects(ReadReferences):
    """Followers of a star: each token reads its own subject in the references."""

    def __init__(self, record: RecordSubjects, owners: Owners, num_panels: int) -> None:
        super().__init__(record.bank, num_panels)
        self._record = record
        self._owners = owners

    def readings(self, num_tokens: int) -> tuple[Reading, ...]:
        """The readings in layers of so many tokens."""
        recorded, references = self._record.recorded(num_tokens), range(self._record.num_panels)
        return tuple(
            reading
            for panel, owners in enumerate(self._owners(num_tokens))
            for reading in read_subjects(panel, owners, recorded, references)
        )
