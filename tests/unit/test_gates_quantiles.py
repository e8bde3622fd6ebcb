"""Quantiles from bins: their ends by hand, and their coverage under continuous looks."""

from __future__ import annotations

import math
from itertools import accumulate, pairwise

import numpy as np
import pytest
from scipy import stats

from sluice.documents.evidence import LATENCY_BOUNDS_MS
from sluice.gates.quantiles import quantile_interval
from sluice.gates.rates import interval_ratio
from tests.support.coverage import ALPHA, allowed


def _counts(values: np.ndarray) -> tuple[int, ...]:
    edges = np.array([-math.inf, *LATENCY_BOUNDS_MS, math.inf])
    return tuple(np.bincount(np.searchsorted(edges[1:], values, side="left"), minlength=len(edges) - 1).tolist())


def _in_bins(draw: np.random.Generator, runs: int, looks: int, every: int, scale: float) -> np.ndarray:
    """Shape (runs, looks, bins), cumulative over looks, of log-normal times around ``scale`` ms."""
    values = draw.lognormal(math.log(scale), 0.6, (runs, looks, every))
    return np.array([[_counts(look) for look in run] for run in values]).cumsum(axis=1)


@pytest.mark.parametrize("q", [0.5, 0.99])
def test_a_quantile_is_covered_at_every_look(q: float) -> None:
    runs, true = 200, float(stats.lognorm.ppf(q, 0.6, scale=9.0))
    counts = _in_bins(np.random.default_rng(21), runs, 40, 50, 9.0)
    missed = 0
    for run in counts:
        found = [quantile_interval(look, LATENCY_BOUNDS_MS, q, ALPHA) for look in run.tolist()]
        missed += any(not one.low <= true <= one.high for one in found)
    assert missed / runs <= allowed(runs)


def test_it_misses_as_often_as_alpha_allows_where_bins_are_fine() -> None:
    """So the test above could fail: with bins of no width the error is not rounded away."""
    draw, runs, q = np.random.default_rng(22), 200, 0.5
    bounds = np.linspace(0.001, 1, 1000).tolist()
    missed = 0
    for _ in range(runs):
        counts = np.zeros(1001, dtype=int)
        wrong = False
        for _ in range(60):
            counts += np.bincount((draw.random(10) * 1000).astype(int), minlength=1001)
            found = quantile_interval(counts.tolist(), bounds, q, 0.3)
            wrong |= not found.low <= q <= found.high
        missed += wrong
    assert 0.02 < missed / runs <= allowed(runs, 0.3)


def test_an_atom_is_covered_too() -> None:
    """Times that are all alike, as a clock of whole milliseconds tells them."""
    draw, runs = np.random.default_rng(23), 200
    missed = 0
    for _ in range(runs):
        values = np.where(draw.random((30, 40)) < 0.52, 8.0, 50.0)
        counts = np.array([_counts(look) for look in values]).cumsum(axis=0)
        found = [quantile_interval(look, LATENCY_BOUNDS_MS, 0.5, ALPHA) for look in counts.tolist()]
        missed += any(not one.low <= 8.0 <= one.high for one in found)
    assert missed / runs <= allowed(runs)


@pytest.mark.parametrize("q", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("size", [700, 3000, 11_000, 40_000])
def test_the_ends_are_the_bins_whose_counts_the_binomial_cannot_have(size: int, q: float) -> None:
    counts = _counts(np.random.default_rng(24).lognormal(math.log(9.0), 0.6, size))
    n, up_to = sum(counts), tuple(accumulate(counts))
    bayes = [
        stats.betabinom.logpmf(count, n, 0.5, 0.5) - stats.binom.logpmf(count, n, q) >= math.log(20) for count in up_to
    ]
    below = [end for end, count, odd in zip(LATENCY_BOUNDS_MS, up_to, bayes, strict=False) if odd and count < q * n]
    above = [end for end, count, odd in zip(LATENCY_BOUNDS_MS, up_to, bayes, strict=False) if odd and count > q * n]
    found = quantile_interval(counts, LATENCY_BOUNDS_MS, q, 0.05)
    assert (found.low, found.high) == (max(below), min(above, default=math.inf))
    assert found.low <= np.quantile(np.repeat([*LATENCY_BOUNDS_MS, math.inf], counts), q) <= found.high


def test_nothing_is_said_about_a_tail_that_was_not_seen() -> None:
    few = _counts(np.full(40, 9.0))
    assert quantile_interval(few, LATENCY_BOUNDS_MS, 0.99, ALPHA).high == math.inf
    assert quantile_interval(few, LATENCY_BOUNDS_MS, 0.5, ALPHA).high < math.inf
    beyond = tuple([0] * len(LATENCY_BOUNDS_MS) + [500])
    assert quantile_interval(beyond, LATENCY_BOUNDS_MS, 0.5, ALPHA) == (math.inf, LATENCY_BOUNDS_MS[-1], math.inf)


def test_a_ratio_of_quantiles_is_covered_and_finds_what_is_twice_as_slow() -> None:
    draw, runs, true = np.random.default_rng(25), 100, 2.0
    slow, fast = _in_bins(draw, runs, 30, 80, 18.0), _in_bins(draw, runs, 30, 80, 9.0)
    missed, last = 0, []
    for ours, theirs in zip(slow.tolist(), fast.tolist(), strict=True):
        found = [
            interval_ratio(*(quantile_interval(look, LATENCY_BOUNDS_MS, 0.9, ALPHA / 2) for look in looks))
            for looks in zip(ours, theirs, strict=True)
        ]
        missed += any(not one.low <= true <= one.high for one in found)
        last.append(found[-1])
    assert missed / runs <= allowed(runs)
    assert np.mean([one.low > 1 for one in last]) > 0.9


def test_bins_are_a_quarter_wide_everywhere() -> None:
    widths = [second / first for first, second in pairwise(LATENCY_BOUNDS_MS)]
    assert min(widths) == pytest.approx(max(widths), rel=1e-3)
    assert widths[0] == pytest.approx(2 ** (1 / 3), rel=1e-3)
