"""TFDV's three comparators, equal to its own but for rounding: what thresholds of skew and drift are held against."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Difference:
    """The largest difference between two tables of counts, and the text where it is."""

    value: str
    size: float


@dataclass(frozen=True)
class Masses:
    """A histogram in three parts: buckets with a width by their ends, points, and counts without a place."""

    lows: np.ndarray
    highs: np.ndarray
    counts: np.ndarray
    points: Mapping[float, float]
    infinite: float
    nan: float

    @staticmethod
    def of(histogram: Any) -> Masses:
        """The parts of a ``Histogram`` message; what is at infinities is one count, whichever they are."""
        wide: list[tuple[float, float, float]] = []
        points: dict[float, float] = defaultdict(float)
        infinite = 0.0
        for bucket in histogram.buckets:
            low, high, count = bucket.low_value, bucket.high_value, bucket.sample_count
            if not (np.isfinite(low) and np.isfinite(high)):
                infinite += count
            elif low == high:
                points[low] += count
            else:
                wide.append((low, high, count))
        lows, highs, counts = np.array(wide, np.float64).reshape(-1, 3).T
        return Masses(lows, highs, counts, points, infinite, float(histogram.num_nan))


def infinity_norm(one: Mapping[str, float], other: Mapping[str, float]) -> Difference:
    """Largest difference between the shares of a text in both: 0 where either is empty of numbers, as in TFDV."""
    return _largest(_scaled(one, sum(one.values())), _scaled(other, sum(other.values())))


def normalized_absolute_difference(one: Mapping[str, float], other: Mapping[str, float]) -> Difference:
    """Largest difference between the counts of a text in both, by the total of both."""
    total = sum(one.values()) + sum(other.values())
    return _largest(_scaled(one, total), _scaled(other, total))


def jensen_shannon_of_counts(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Jensen-Shannon divergence, base 2, of two tables of counts that are not empty."""
    values = sorted({*one, *other})
    return _divergence(*(np.array([counts.get(value, 0.0) for value in values]) for counts in (one, other)))


def jensen_shannon_of_histograms(one: Any, other: Any) -> float | None:
    """
    Jensen-Shannon divergence, base 2, of two ``Histogram`` messages: buckets are cut at the ends of both, as if the
    numbers in each lay evenly; points are compared with points. As in TFDV, NaN of one side never match NaN of the
    other, and neither do infinities, so a divergence is above 0 where both have them.

    Returns:
        ``None`` where a side is empty.
    """
    first, second = Masses.of(one), Masses.of(other)
    edges = np.unique(np.concatenate([first.lows, first.highs, second.lows, second.highs]))
    points = sorted({*first.points, *second.points})
    sides = []
    for masses, before in ((first, True), (second, False)):
        apart = [_apart(count, first=before) for count in (masses.infinite, masses.nan)]
        at_points = np.array([masses.points.get(point, 0.0) for point in points])
        sides.append(np.concatenate([_cut(masses, edges), at_points, *apart]))
    if any(side.sum() == 0 for side in sides):
        return None
    return _divergence(*sides)


def _apart(count: float, *, first: bool) -> np.ndarray:
    """A count in a bucket where the other side has none."""
    return np.array([count, 0.0] if first else [0.0, count])


def _cut(masses: Masses, edges: np.ndarray) -> np.ndarray:
    """Counts between neighbouring ``edges``, of which every end of a bucket is one."""
    counts = np.zeros(max(0, edges.size - 1))
    for low, high, count in zip(masses.lows, masses.highs, masses.counts, strict=True):
        first, last = np.searchsorted(edges, (low, high))
        counts[first:last] += np.diff(edges[first : last + 1]) / (high - low) * count
    return counts


def _divergence(one: np.ndarray, other: np.ndarray) -> float:
    p, q = one / one.sum(), other / other.sum()
    middle = (p + q) / 2
    return float(min((_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2, 1.0))


def _relative_entropy(p: np.ndarray, q: np.ndarray) -> float:
    there = (p > 0) & (q > 0)
    return float(np.sum(p[there] * np.log2(p[there] / q[there])))


def _scaled(counts: Mapping[str, float], total: float) -> dict[str, float]:
    return {value: count / total if total else 0.0 for value, count in counts.items()}


def _largest(one: Mapping[str, float], other: Mapping[str, float]) -> Difference:
    """As TFDV: of equal differences that of the last text."""
    best = Difference("", 0.0)
    for value in sorted({*one, *other}):
        size = abs(one.get(value, 0.0) - other.get(value, 0.0))
        if size >= best.size:
            best = Difference(value, size)
    return best
