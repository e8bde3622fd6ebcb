"""Distances between two columns as they were counted, besides TFDV's: numbers by rank or place, texts by count."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sluice.data.census.histograms import quantiles_at

_BINS = 10
_LEAST_SHARE = 1e-4
"""Stands for a share of 0 in a logarithm, as is the custom with PSI."""
_CLOSE = 1e-15


@dataclass(frozen=True)
class NumberCounts:
    """Distinct numbers, ascending, and how often each occurs; (n,) each, n > 0."""

    numbers: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True)
class ChiSquare:
    """Pearson's statistic of two rows of counts, its degrees of freedom, and the chance of as much by chance alone."""

    statistic: float
    freedom: int
    p_value: float


def kolmogorov_smirnov(one: NumberCounts, other: NumberCounts) -> float:
    """Largest difference between the shares at or below a number: 0 to 1, no unit."""
    _, first, second = _together(one, other)
    return float(np.abs(first - second).max())


def wasserstein(one: NumberCounts, other: NumberCounts) -> float:
    """How far mass must be moved, on average, in the unit of the numbers; infinite where a side is."""
    places, first, second = _together(one, other)
    return float(np.sum(np.abs(first - second)[:-1] * np.diff(places)))


def population_stability(baseline: NumberCounts, fresh: NumberCounts) -> float:
    """Population stability index of ten bins of equal mass of the baseline; one above 0.2 is called a shift."""
    edges = np.unique(quantiles_at(baseline.numbers, baseline.counts, np.arange(1, _BINS) / _BINS)[0])
    shares = [
        np.bincount(np.searchsorted(edges, side.numbers, side="left"), weights=side.counts, minlength=edges.size + 1)
        for side in (baseline, fresh)
    ]
    return _stability(*shares)


def population_stability_of_texts(baseline: Mapping[str, float], fresh: Mapping[str, float]) -> float:
    """Population stability index of texts, a bin each."""
    return _stability(*_aligned(baseline, fresh))


def chi_square(one: Mapping[str, float], other: Mapping[str, float]) -> ChiSquare:
    """Pearson's test whether two tables of counts are of one distribution; texts that neither has are no column."""
    table = np.array(_aligned(one, other))
    table = table[:, table.sum(axis=0) > 0]
    freedom = max(0, table.shape[1] - 1)
    if freedom == 0 or (table.sum(axis=1) == 0).any():
        return ChiSquare(0.0, freedom, 1.0)
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    return ChiSquare(statistic, freedom, _upper_gamma(freedom / 2, statistic / 2))


def _together(one: NumberCounts, other: NumberCounts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers of both, ascending, and the share of each side at or below them."""
    places = np.union1d(one.numbers, other.numbers)
    shares = []
    for side in (one, other):
        below = np.concatenate([[0.0], np.cumsum(side.counts, dtype=np.float64)])
        shares.append(below[np.searchsorted(side.numbers, places, side="right")] / below[-1])
    return places, shares[0], shares[1]


def _aligned(one: Mapping[str, float], other: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
    values = sorted({*one, *other})
    first, second = (np.array([side.get(value, 0.0) for value in values], np.float64) for side in (one, other))
    return first, second


def _stability(baseline: np.ndarray, fresh: np.ndarray) -> float:
    if baseline.sum() == 0 or fresh.sum() == 0:
        return 0.0
    p = np.maximum(baseline / baseline.sum(), _LEAST_SHARE)
    q = np.maximum(fresh / fresh.sum(), _LEAST_SHARE)
    return float(np.sum((q - p) * np.log(q / p)))


def _upper_gamma(shape: float, x: float) -> float:
    """The regularized upper incomplete gamma function, by its series or its continued fraction (Numerical Recipes)."""
    if x <= 0:
        return 1.0
    scale = math.exp(-x + shape * math.log(x) - math.lgamma(shape))
    if x < shape + 1:
        term = total = 1 / shape
        step = shape
        while abs(term) > abs(total) * _CLOSE:
            step += 1
            term *= x / step
            total += term
        return max(0.0, 1 - total * scale)
    low = x + 1 - shape
    high, below = 1e300, 1 / low
    result, number = below, 0
    while True:
        number += 1
        factor = -number * (number - shape)
        low += 2
        below = 1 / (factor * below + low)
        high = low + factor / high
        change = high * below
        result *= change
        if abs(change - 1) < _CLOSE or number > 10_000:
            return min(1.0, scale * result)
