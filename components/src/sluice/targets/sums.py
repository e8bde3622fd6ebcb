"""
Sums over rows, and the same sums in every resample of days: one formula of sums serves a value and its resamples.

Shapes: groups and values (n,); what is given has no axis before its own over rows, and (R,) before it in resamples.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sluice.arrays import Floats, Ints


class Summation(Protocol):
    """Sums over rows."""

    def by(self, groups: Ints, size: int, values: Ints | Floats) -> Floats:
        """(..., size): the values summed by group."""

    def total(self, values: Ints | Floats) -> Floats:
        """(...,): the values summed."""

    def pairs(self, bins: Ints, size: int, hits: Ints) -> tuple[Floats, Floats]:
        """(..., size) rows whose ``hits`` (n,) is 1, and those where it is 0, by bin."""


class RowSums:
    """Each row once."""

    def by(self, groups: Ints, size: int, values: Ints | Floats) -> Floats:
        """(size,)."""
        return np.bincount(groups, weights=values, minlength=size).astype(np.float64)

    def total(self, values: Ints | Floats) -> Floats:
        """() of float64."""
        return np.asarray(values.sum(dtype=np.float64))

    def pairs(self, bins: Ints, size: int, hits: Ints) -> tuple[Floats, Floats]:
        """(size,) each."""
        positives = self.by(bins, size, hits)
        return positives, self.by(bins, size, np.ones(bins.size)) - positives


class DaySums:
    """
    Each row as often as its day was drawn.

    Args:
        days: (n,) day of each row, 0 to D - 1.
        weights: (R, D) how often each day was drawn.
    """

    def __init__(self, days: Ints, weights: Floats) -> None:
        self._days, self._number, self._weights = days, weights.shape[1], weights
        self._narrow = weights.astype(np.float32)

    def by(self, groups: Ints, size: int, values: Ints | Floats) -> Floats:
        """(R, size)."""
        cells = np.bincount(self._days * size + groups, weights=values, minlength=self._number * size)
        return _product(self._weights, cells.reshape(self._number, size))

    def total(self, values: Ints | Floats) -> Floats:
        """(R,)."""
        sums = np.bincount(self._days, weights=values, minlength=self._number)
        return _product(self._weights, sums[:, np.newaxis])[:, 0]

    def pairs(self, bins: Ints, size: int, hits: Ints) -> tuple[Floats, Floats]:
        """(R, size) each. Counts below 2**24 are exact in float32, at half the cost."""
        width = 2 * size
        cells = np.bincount(self._days * width + hits * size + bins, minlength=self._number * width)
        table = cells.reshape(self._number, width).astype(np.float32)
        counts = _product(self._narrow, table).astype(np.float64)
        return counts[:, size:], counts[:, :size]


def _product(left: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    """
    (R, D) times (D, b) in one thread.

    These products are small: BLAS threads that wait for a busy core cost ten times what they save, and their number
    would decide the last bits.
    """
    product: NDArray[Any] = np.einsum("rd,db->rb", left, right)
    return product


def ratio(top: Floats | np.float64, bottom: Floats | np.float64) -> Floats:
    """Their quotient; NaN where it is not defined."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.true_divide(top, bottom))
