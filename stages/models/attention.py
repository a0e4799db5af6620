"""Consistent Self-Attention (StoryDiffusion, arXiv 2405.01434, section 3.1).

Panels read tokens of each other inside the self-attention of the UNet, so that they agree on what
their prompts leave open. The projections are the pretrained ones; nothing is trained. Legend::

    G  guidance branches (negative, positive), which never see each other
    P  panels (keyframes of a story, or frames of a clip)    M  panels that read the same
    N  tokens of a panel      S  sampled tokens of a panel   T  tokens that are shared
    H  heads                  D  channels of a head          R  own tokens of a panel

A row is a token of the whole UNet call: token n of panel p is row p * N + n.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor

from storyreel.stages.models.merged_attention import KeyValue, attend_jointly

Positions = Callable[[int], Tensor]
"""From N to the positions (P, S) of the sampled tokens of every panel."""

Rows = slice | Tensor
"""Some rows: a slice where they are neighbours, which takes no copy, or their indices."""

Bank = dict[str, KeyValue]
"""Keys and values that later UNet calls read, (G, T, H, D) each, by layer."""


@dataclass(frozen=True, slots=True)
class Reading:
    """`num_groups` groups of queries; each attends to its own rows, all to the shared ones too.

    queries and own hold as many rows for each group, group after group. What a group has as its own
    is not among the shared rows, or it would count twice.
    """

    num_groups: int
    queries: Rows
    own: Rows
    shared: Rows

    def of_groups(self, tokens: Tensor, rows: Rows) -> Tensor:
        """(G, rows, H, D) -> (G, M, rows of a group, H, D)."""
        chosen = tokens[:, rows]
        return rearrange(chosen, "g (m l) h d -> g m l h d", m=self.num_groups)

    def to(self, device: torch.device) -> "Reading":
        """The same with its indices on a device, where using them waits for nothing."""
        rows = (_on_device(x, device) for x in (self.queries, self.own, self.shared))
        return Reading(self.num_groups, *rows)


@dataclass(frozen=True, slots=True)
class Readings:
    """Readings that together have every row as a query; count (rows, 1, 1): how many each has.

    None: each has one.
    """

    readings: tuple[Reading, ...]
    count: Tensor | None


def prepare(readings: Sequence[Reading], num_rows: int, device: torch.device) -> Readings:
    """Readings ready for the layers of one size on a device."""
    count = torch.zeros(num_rows, 1, 1, dtype=torch.int32)
    for reading in readings:
        count[reading.queries] += 1
    assert count.all()
    repeated = None if bool((count == 1).all()) else _moved(count, device)
    return Readings(tuple(reading.to(device) for reading in readings), repeated)


def _on_device(rows: Rows, device: torch.device) -> Rows:
    return rows if isinstance(rows, slice) else _moved(rows, device)


def _moved(values: Tensor, device: torch.device) -> Tensor:
    # Only pinned memory is copied without waiting for the device.
    pinned = values.pin_memory() if device.type == "cuda" else values
    return pinned.to(device, non_blocking=True)


def consistent_self_attention(
    query: Tensor, own: KeyValue, shared: KeyValue, prepared: Readings
) -> Tensor:
    """Equation 2: O_i = Attention(Q_i, K_Pi, V_Pi), P_i the own tokens and the samples S_i.

    Keys and values are projected before sampling, which is the same (the projection works on each
    token alone) and happens once for all readers. Rows with several readings get their mean
    (Algorithm 1).

    Args:
        query: (G, rows, H, D).
        own: key and value of the same rows.
        shared: key and value, (G, any rows, H, D), that the readings share.
        prepared: which rows read which.

    Returns:
        (G, rows, H, D).
    """
    total = torch.zeros_like(query)
    for reading in prepared.readings:
        own_key, own_value = (reading.of_groups(x, reading.own) for x in own)
        shared_key, shared_value = (x[:, reading.shared] for x in shared)
        total[:, reading.queries] += attend_jointly(
            reading.of_groups(query, reading.queries),
            (own_key, own_value),
            (shared_key, shared_value),
        ).flatten(1, 2)
    return total if prepared.count is None else total / prepared.count


@dataclass(frozen=True, slots=True)
class View:
    """`panels` attend together: each reads the samples of all `sources`, itself left out.

    Either all of the panels are sources too, or none of them is.
    """

    panels: tuple[int, ...]
    sources: tuple[int, ...]

    def __post_init__(self) -> None:
        assert self.panels
        assert self.share or not set(self.panels) & set(self.sources)

    @property
    def share(self) -> bool:
        """True if the panels read each other."""
        return set(self.panels) <= set(self.sources)

    def others(self, panel: int) -> tuple[int, ...]:
        """What one of the panels reads beside itself."""
        return tuple(source for source in self.sources if source != panel)


def read_along(views: Sequence[View], positions: Tensor, num_tokens: int) -> tuple[Reading, ...]:
    """The readings of whole panels.

    A panel whose samples are among the shared ones has only the rest as its own: own tokens and
    samples of the others are the same keys as the rest and the samples of all.

    Args:
        views: which panels read which.
        positions: (P, S), the sampled tokens of each panel.
        num_tokens: N.
    """
    sampled = sampled_mask(positions, num_tokens)
    every = torch.ones_like(sampled)
    return tuple(
        Reading(
            num_groups=len(view.panels),
            queries=rows_where(every, view.panels),
            own=rows_where(~sampled if view.share else every, view.panels),
            shared=rows_where(sampled, view.sources),
        )
        for view in views
    )


def sampled_mask(positions: Tensor, num_tokens: int) -> Tensor:
    """Positions (P, S) -> True where a token is sampled, (P, N)."""
    mask = torch.zeros(len(positions), num_tokens, dtype=torch.bool)
    return mask.scatter_(1, positions, value=True)


def rows_where(mask: Tensor, panels: Sequence[int]) -> Rows:
    """The rows of some panels, in their order, where a mask (P, N) holds."""
    num_tokens = mask.shape[1]
    rows = torch.cat(
        [panel * num_tokens + mask[panel].nonzero()[:, 0] for panel in panels]
        or [torch.zeros(0, dtype=torch.long)]
    )
    if len(rows) == 0:
        return slice(0, 0)
    first, last = int(rows[0]), int(rows[-1])
    neighbours = torch.equal(rows, torch.arange(first, first + len(rows)))
    return slice(first, last + 1) if neighbours else rows


def all_to_all(num_panels: int) -> tuple[View, ...]:
    """Every panel reads every other one (equation 2 over the whole story)."""
    return (_together(range(num_panels)),)


def window(num_panels: int, size: int) -> tuple[View, ...]:
    """Tiles of `size` neighbouring panels, one panel apart (Algorithm 1); all-to-all if one fits.

    Attention memory depends on `size` alone; that of the UNet on how many panels a call has.
    """
    tiles = max(num_panels - size, 0) + 1
    return tuple(_together(range(t, min(t + size, num_panels))) for t in range(tiles))


def star(num_panels: int, num_references: int) -> tuple[View, ...]:
    """The first panels read each other, the later ones read only them."""
    return readers(num_panels, range(min(num_references, num_panels)))


def readers(num_panels: int, sources: Sequence[int]) -> tuple[View, ...]:
    """Every panel reads the `sources`, which read each other: frames that read both keyframes."""
    together = _together(sorted(set(sources)))
    others = tuple(panel for panel in range(num_panels) if panel not in sources)
    return (together, View(others, together.sources)) if others else (together,)


def anchored(views: Sequence[View], num_anchors: int) -> tuple[View, ...]:
    """`views` with anchors put before their panels: all panels read the anchors, they only self."""
    if num_anchors == 0:
        return tuple(views)
    anchors = tuple(range(num_anchors))

    def shifted(panels: Sequence[int]) -> tuple[int, ...]:
        return tuple(panel + num_anchors for panel in panels)

    return View(anchors, ()), *(
        View(shifted(view.panels), anchors + shifted(view.sources)) for view in views
    )


def _together(panels: Sequence[int]) -> View:
    return View(tuple(panels), tuple(panels))


def sample_positions(
    num_panels: int,
    num_tokens: int,
    *,
    rate: float,
    seed: int,
    sampling: Literal["random", "grid"] = "random",
) -> Tensor:
    """Draw S = round(rate * N) different token positions of each panel, in rising order: (P, S).

    "random" draws for each panel alone, on the CPU so that every device renders alike; "grid"
    takes evenly spaced tokens in raster order, the same of each panel.
    """
    num_sampled = round(rate * num_tokens)
    if sampling == "grid":
        doubled = (2 * torch.arange(num_sampled) + 1) * num_tokens
        return (doubled // (2 * max(num_sampled, 1))).expand(num_panels, -1)
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(num_panels, num_tokens, generator=generator).argsort(dim=1, stable=True)
    return order[:, :num_sampled].sort(dim=1).values


class LockStep:
    """All panels are in this UNet call and read each other along `views`.

    Everything that does not depend on the layer is prepared once for layers of the same size.
    """

    def __init__(self, views: Sequence[View], positions: Positions) -> None:
        self.num_panels = 1 + max(max(view.panels) for view in views)
        self.views = tuple(views)
        self._positions = positions
        self._prepared = functools.cache(self._prepare)

    def attend(
        self,
        layer: str,  # noqa: ARG002 - for the plans that keep something by layer
        query: Tensor,
        key: Tensor,
        value: Tensor,
    ) -> Tensor:
        """Attend along the views: (G, rows, H, D) each -> (G, rows, H, D)."""
        prepared = self._prepared(query.shape[1] // self.num_panels, query.device)
        return consistent_self_attention(query, (key, value), (key, value), prepared)

    def sampled(self, num_tokens: int) -> Tensor:
        """The positions (P, S); `positions` may be those of a story that begins with these."""
        return self._positions(num_tokens)[: self.num_panels]

    def readings(self, num_tokens: int) -> tuple[Reading, ...]:
        """The readings in layers of so many tokens."""
        return read_along(self.views, self.sampled(num_tokens), num_tokens)

    def _prepare(self, num_tokens: int, device: torch.device) -> Readings:
        return prepare(self.readings(num_tokens), self.num_panels * num_tokens, device)


class RecordReferences(LockStep):
    """The references of a star: they attend, and leave what the followers read in `bank`."""

    def __init__(self, views: Sequence[View], positions: Positions) -> None:
        super().__init__(views, positions)
        self.bank: Bank = {}
        self._recorded = functools.cache(self._rows_on)

    def attend(self, layer: str, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend along the views and record."""
        rows = self._recorded(query.shape[1] // self.num_panels, query.device)
        self.bank[layer] = key[:, rows], value[:, rows]
        return super().attend(layer, query, key, value)

    def readable(self, num_tokens: int) -> Tensor:
        """True for the tokens that are recorded, (P, N)."""
        return sampled_mask(self.sampled(num_tokens), num_tokens)

    def _rows_on(self, num_tokens: int, device: torch.device) -> Rows:
        return _on_device(rows_where(self.readable(num_tokens), range(self.num_panels)), device)


class ReadReferences:
    """Followers of a star: each reads the references' tokens of this step, and no other panel."""

    def __init__(self, bank: Bank, num_panels: int) -> None:
        self.num_panels = num_panels
        self._bank = bank
        self._prepared = functools.cache(self._prepare)

    def attend(self, layer: str, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend to the own tokens and to those in the bank: (G, rows, H, D)."""
        prepared = self._prepared(query.shape[1] // self.num_panels, query.device)
        return consistent_self_attention(query, (key, value), self._bank[layer], prepared)

    def readings(self, num_tokens: int) -> tuple[Reading, ...]:
        """The readings in layers of so many tokens."""
        every = slice(0, self.num_panels * num_tokens)
        return (Reading(self.num_panels, queries=every, own=every, shared=slice(None)),)

    def _prepare(self, num_tokens: int, device: torch.device) -> Readings:
        return prepare(self.readings(num_tokens), self.num_panels * num_tokens, device)
