"""How many values a row has, at each level of a nested column."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sluice.data.census.exact_sum import exact_sum
from sluice.data.census.number_table import NumberTable


@dataclass
class Valency:
    """One level of nesting: what is there, and how many values it holds. Weighted sums are ``exact_sum`` units."""

    present: int = 0
    values: int = 0
    present_weight: int = 0
    values_weight: int = 0
    lengths: NumberTable = field(default_factory=NumberTable)

    def add(self, lengths: np.ndarray, weights: np.ndarray | None) -> None:
        """
        Count what is present.

        Args:
            lengths: int64 of shape (n,): how many values each present one has.
            weights: float64 of shape (n,), or ``None``.
        """
        self.present += lengths.size
        self.values += int(lengths.sum())
        _add_lengths(self.lengths, lengths)
        if weights is not None:
            self.present_weight += exact_sum(weights)
            self.values_weight += exact_sum(weights * lengths)

    def merge(self, other: Valency) -> None:
        """Count what the other has counted too."""
        self.present += other.present
        self.values += other.values
        self.present_weight += other.present_weight
        self.values_weight += other.values_weight
        self.lengths.merge(other.lengths)


@dataclass
class Innermost:
    """Values at the innermost level of each row, of a column with several levels."""

    lengths: NumberTable = field(default_factory=NumberTable)

    def add(self, counts: np.ndarray) -> None:
        """Count rows by their innermost values (int64, one a present row)."""
        _add_lengths(self.lengths, counts)


def _add_lengths(table: NumberTable, lengths: np.ndarray) -> None:
    """Count lengths, of which there are few and many are equal."""
    if lengths.size and lengths.min() == lengths.max():
        distinct, counts = lengths[:1], np.array([lengths.size])
    else:
        distinct, counts = np.unique(lengths, return_counts=True)
    table.add_counts(distinct.astype(np.float64), counts.astype(np.int64))
