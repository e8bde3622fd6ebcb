"""Histograms of a number table: equal widths and equal counts, with the buckets that TFDV's have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BUCKETS = 10


@dataclass(frozen=True)
class Buckets:
    """Buckets from ``lows`` (exclusive but in the first) to ``highs`` (inclusive), with their counts; (n,) each."""

    lows: np.ndarray
    highs: np.ndarray
    counts: np.ndarray


def equal_widths(numbers: np.ndarray, counts: np.ndarray, low: float, high: float) -> Buckets:
    """
    Ten buckets of one width; a single one where all numbers are equal, none where the width overflows.

    Args:
        numbers: finite numbers, ascending, (n,).
        counts: how often each occurs, or what it weighs, (n,).
        low: the smallest number.
        high: the largest.
    """
    if numbers.size == 0:
        return Buckets(*(np.empty(0) for _ in range(3)))
    if low == high:
        return Buckets(np.array([low]), np.array([high]), np.array([float(counts.sum())]))
    with np.errstate(over="ignore", invalid="ignore"):
        edges = np.linspace(low, high, BUCKETS + 1)
    if not np.isfinite(edges).all():
        return Buckets(*(np.empty(0) for _ in range(3)))
    place = np.clip(np.searchsorted(edges[1:], numbers, side="left"), 0, BUCKETS - 1)
    return Buckets(edges[:-1], edges[1:], np.bincount(place, weights=counts, minlength=BUCKETS))


def equal_counts(numbers: np.ndarray, counts: np.ndarray) -> Buckets:
    """
    Ten buckets between quantiles of the data, ends as ``quantiles_at`` gives them; what buckets with the same upper
    end hold is divided evenly among them.

    Args:
        numbers: numbers, infinite ones too, ascending, (n,) with n > 0.
        counts: how often each occurs, or what it weighs, (n,).
    """
    edges, below = quantiles_at(numbers, counts, np.arange(BUCKETS + 1) / BUCKETS)
    content, lows, highs = np.diff(below), edges[:-1], edges[1:]
    first = 0
    for last in range(1, BUCKETS + 1):
        if last == BUCKETS or highs[last] != highs[first]:
            content[first:last] = content[first:last].sum() / (last - first)
            first = last
    alike = (lows == lows[0]) & (highs == highs[0])
    equal = int(np.argmin(alike)) if not alike.all() else BUCKETS
    content[:equal] += below[0] / equal
    return Buckets(lows, highs, content)


def quantiles_at(numbers: np.ndarray, counts: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    The smallest number such that more than each share of all lie at or below it, and how many do; the largest for a
    share of 1. Of sorted numbers without counts it is the one at place ``floor(share * n)``, as in TFDV.

    Args:
        numbers: ascending, (n,) with n > 0.
        counts: how often each occurs, or what it weighs, (n,).
        shares: in [0, 1], ascending, (m,).

    Returns:
        two arrays of shape (m,).
    """
    below = np.cumsum(counts, dtype=np.float64)
    targets = shares * below[-1] * (1 + 1e-15)  # a share of all may round to a little less than a count
    place = np.minimum(np.searchsorted(below, targets, side="right"), numbers.size - 1)
    return numbers[place], below[place]
