"""The Frechet distance between two sets of features, from sums that can be added up in parts.

Axes: B features, D their channels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureStatistics:
    """Count, sum (D,) and sum of outer products (D, D) of a set of features, float64."""

    count: int
    total: Doubles
    outer: Doubles

    @classmethod
    def of(cls, features: Doubles) -> Self:
        """The statistics of features (B, D)."""
        values = np.asarray(features, dtype=np.float64)
        return cls(count=len(values), total=values.sum(axis=0), outer=values.T @ values)

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, Doubles]) -> Self:
        """The statistics that `arrays` returned."""
        count = int(arrays["count"][0])
        return cls(count=count, total=arrays["total"], outer=arrays["outer"])

    def arrays(self) -> dict[str, Doubles]:
        """As arrays, to be stored."""
        return {"count": np.array([self.count]), "total": self.total, "outer": self.outer}

    def __add__(self, other: Self) -> Self:
        """The statistics of both sets together.

        Raises:
            ValueError: the features have different widths.
        """
        if self.total.shape != other.total.shape:
            widths = f"{len(self.total)} and {len(other.total)}"
            raise ValueError(f"features of {widths} channels cannot be of one set")
        return type(self)(
            count=self.count + other.count,
            total=self.total + other.total,
            outer=self.outer + other.outer,
        )

    @property
    def mean(self) -> Doubles:
        """(D,)"""
        return self.total / self.count

    @property
    def covariance(self) -> Doubles:
        """(D, D), of the set itself (divided by its count)."""
        covariance: Doubles = self.outer / self.count - np.outer(self.mean, self.mean)
        return covariance


def frechet_distance(first: FeatureStatistics, second: FeatureStatistics) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of the Gaussians with these moments (FID, Heusel
    et al. 2017, arXiv 1706.08500, eq. 6), at least 0.

    On CLIP image embeddings before normalisation this is the CLIP-FID of arXiv 2203.06026, with
    the encoder's own preprocessing. Sets of fewer pictures than channels make it larger; compare
    only figures of equal counts.

    Raises:
        ValueError: a set is empty, or the features have different widths.
    """
    if not (first.count and second.count):
        raise ValueError("Frechet distance: a set without features has no distance")
    if first.total.shape != second.total.shape:
        widths = f"{len(first.total)} and {len(second.total)}"
        raise ValueError(f"Frechet distance: features of {widths} channels")
    means = np.sum((first.mean - second.mean) ** 2)
    one, other = first.covariance, second.covariance
    root = _square_root(one)
    # (C1 C2)^(1/2) has the trace of (C1^(1/2) C2 C1^(1/2))^(1/2), which is symmetric.
    mixed = np.linalg.eigvalsh(root @ other @ root)
    overlap = np.sqrt(np.clip(mixed, 0, None)).sum()
    return max(0.0, float(means + np.trace(one) + np.trace(other) - 2 * overlap))


def _square_root(covariance: Doubles) -> Doubles:
    values, vectors = np.linalg.eigh(covariance)
    root: Doubles = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    return root
