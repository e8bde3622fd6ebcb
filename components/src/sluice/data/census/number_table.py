"""How often each number occurs: exactly as long as there are few, by neighbouring numbers when there are many."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

CAPACITY = 8192
"""Numbers, or groups of neighbouring ones, that a table keeps."""
_SIGN = np.uint64(1 << 63)


@dataclass
class NumberTable:
    """
    Counts and weights of finite numbers, in their order.

    A number's key is its bits, so arranged that keys are ordered as numbers are. While at most ``CAPACITY`` keys
    differ, each is kept; from then on as many low bits are dropped as are needed, and no more, so that numbers within
    a relative distance of 2**(dropped - 52) share a key. How many are dropped depends on the numbers alone, not on
    their order or on the parts they came in, so tables of parts merge to the table of the whole.
    """

    dropped: int = 0
    keys: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))
    counts: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    weights: np.ndarray = field(default_factory=lambda: np.empty(0, np.float64))
    minimum: float = float("inf")
    maximum: float = float("-inf")

    def add(self, values: np.ndarray, weights: np.ndarray | None = None) -> None:
        """
        Count finite numbers.

        Args:
            values: float64 of shape (n,), without NaN and infinity.
            weights: float64 of shape (n,); 1 each where it is left out.
        """
        if values.size == 0:
            return
        self.minimum = min(self.minimum, float(values.min()))
        self.maximum = max(self.maximum, float(values.max()))
        keys = keys_of(values) >> np.uint64(self.dropped) << np.uint64(self.dropped)
        if weights is None:
            distinct, counts = np.unique(keys, return_counts=True)
            self._take(distinct, counts.astype(np.int64), counts.astype(np.float64))
        else:
            self._take(keys, np.ones(values.size, np.int64), weights)

    def add_counts(self, values: np.ndarray, counts: np.ndarray) -> None:
        """Count finite numbers (float64, (n,)) that occur so often each (int64, (n,))."""
        if values.size:
            self.minimum, self.maximum = min(self.minimum, float(values.min())), max(self.maximum, float(values.max()))
            self._take(keys_of(values), counts, counts.astype(np.float64))

    def merge(self, other: NumberTable) -> None:
        """Count what the other table has counted too."""
        self.minimum, self.maximum = min(self.minimum, other.minimum), max(self.maximum, other.maximum)
        self.dropped = max(self.dropped, other.dropped)
        self._take(other.keys, other.counts, other.weights)

    def numbers(self) -> np.ndarray:
        """The number that stands for each key, ascending: itself, or the middle of its group within the extremes."""
        middle = np.uint64(1 << (self.dropped - 1)) if self.dropped else np.uint64(0)
        numbers: np.ndarray = np.clip(numbers_of(self.keys + middle), self.minimum, self.maximum)
        return numbers

    @property
    def total(self) -> int:
        """Numbers that were counted."""
        return int(self.counts.sum())

    @property
    def rank_error(self) -> float:
        """The largest share of all numbers that one key stands for, where it may stand for several; else 0."""
        return float(self.counts.max() / self.counts.sum()) if self.dropped and self.keys.size else 0.0

    def _take(self, keys: np.ndarray, counts: np.ndarray, weights: np.ndarray) -> None:
        keys = np.concatenate([self.keys, keys]) >> np.uint64(self.dropped) << np.uint64(self.dropped)
        counts, weights = np.concatenate([self.counts, counts]), np.concatenate([self.weights, weights])
        keys, counts, weights = _summed(keys, counts, weights)
        dropped = max(self.dropped, _bits_to_drop(keys))
        if dropped > self.dropped:
            keys, counts, weights = _summed(keys >> np.uint64(dropped) << np.uint64(dropped), counts, weights)
        self.dropped, self.keys, self.counts, self.weights = dropped, keys, counts, weights


def keys_of(values: np.ndarray) -> np.ndarray:
    """The key (uint64) of each number (float64); both zeros have one."""
    bits = (np.ascontiguousarray(values, np.float64) + 0.0).view(np.uint64)
    keys: np.ndarray = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    return keys


def numbers_of(keys: np.ndarray) -> np.ndarray:
    """The number (float64) of each key (uint64)."""
    bits = np.where(keys & _SIGN, keys & ~_SIGN, ~keys)
    return np.ascontiguousarray(bits).view(np.float64)


def _summed(keys: np.ndarray, counts: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One entry a key, ascending."""
    if keys.size == 0:
        return keys, counts, weights
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return keys[starts], np.add.reduceat(counts[order], starts), np.add.reduceat(weights[order], starts)


def _bits_to_drop(keys: np.ndarray) -> int:
    """The fewest low bits without which at most ``CAPACITY`` of the ascending ``keys`` differ."""
    if keys.size <= CAPACITY:
        return 0
    apart = keys[1:] ^ keys[:-1]
    high, low = apart >> np.uint64(32), apart & np.uint64(0xFFFFFFFF)
    lengths = np.where(high > 0, 32 + np.frexp(high.astype(np.float64))[1], np.frexp(low.astype(np.float64))[1])
    return int(np.sort(lengths)[::-1][CAPACITY - 1])
