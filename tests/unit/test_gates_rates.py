"""Rates: against independent implementations (scipy), and their coverage under continuous looks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from sluice.gates.rates import beta_mixture, interval_difference, interval_ratio, poisson_interval, proportion_interval
from sluice.gates.sequential import Interval
from tests.support.coverage import ALPHA, allowed


@pytest.mark.parametrize(("hits", "n"), [(0, 1), (3, 40), (40, 40), (120, 9000)])
def test_the_mixture_is_the_beta_binomial(hits: int, n: int) -> None:
    orders = math.lgamma(n + 1) - math.lgamma(hits + 1) - math.lgamma(n - hits + 1)
    assert beta_mixture(hits, n) == pytest.approx(stats.betabinom.logpmf(hits, n, 0.5, 0.5) - orders, abs=1e-6)


@pytest.mark.parametrize(("hits", "n", "alpha"), [(0, 50, 0.05), (7, 60, 0.02), (300, 4000, 0.05), (60, 60, 0.01)])
def test_a_proportion_is_what_the_beta_binomial_does_not_reject(hits: int, n: int, alpha: float) -> None:
    p = np.linspace(1e-6, 1 - 1e-6, 200_001)
    bayes = stats.betabinom.logpmf(hits, n, 0.5, 0.5) - stats.binom.logpmf(hits, n, p)
    kept = p[bayes < math.log(1 / alpha)]
    found = proportion_interval(hits, n, alpha)
    assert found.estimate == hits / n
    assert (found.low, found.high) == pytest.approx((kept[0], kept[-1]), abs=2e-5)


@pytest.mark.parametrize(
    ("events", "hours", "alpha"), [(0, 10.0, 0.05), (1, 3.0, 0.02), (25, 400.0, 0.05), (900, 30.0, 0.01)]
)
def test_a_poisson_rate_is_what_the_negative_binomial_does_not_reject(events: int, hours: float, alpha: float) -> None:
    rates = np.linspace(1e-6, 3 * (events + 10) / hours, 400_001)
    bayes = stats.nbinom.logpmf(events, 0.5, 1 / (1 + hours)) - stats.poisson.logpmf(events, rates * hours)
    kept = rates[bayes < math.log(1 / alpha)]
    found = poisson_interval(events, hours, alpha)
    assert (found.low, found.high) == pytest.approx((kept[0], kept[-1]), abs=2 * (rates[1] - rates[0]))


@pytest.mark.parametrize("rate", [0.05, 2.0])
def test_a_poisson_rate_is_covered_at_every_look(rate: float) -> None:
    draw, runs = np.random.default_rng(11), 400
    events = draw.poisson(rate * 0.5, (runs, 300)).cumsum(axis=1)
    missed = 0
    for run in range(runs):
        found = [poisson_interval(int(events[run, k]), 0.5 * (k + 1), ALPHA) for k in range(0, 300, 6)]
        missed += any(not one.low <= rate <= one.high for one in found)
    assert missed / runs <= allowed(runs)


@pytest.mark.parametrize("rates", [(0.02, 0.02), (0.3, 0.1)])
def test_difference_and_ratio_of_two_proportions_are_covered_at_every_look(rates: tuple[float, float]) -> None:
    draw, runs = np.random.default_rng(12), 200
    ours, theirs = ((draw.random((runs, 2000)) < rate).cumsum(axis=1) for rate in rates)
    missed = np.zeros(2)
    for run in range(runs):
        wrong = np.zeros(2, dtype=bool)
        for k in [*range(0, 60, 10), *range(60, 2000, 90)]:
            first = proportion_interval(int(ours[run, k]), k + 1, ALPHA / 2)
            second = proportion_interval(int(theirs[run, k // 2]), k // 2 + 1, ALPHA / 2)
            gap, times = interval_difference(first, second), interval_ratio(first, second)
            wrong |= [
                not gap.low <= rates[0] - rates[1] <= gap.high,
                not times.low <= rates[0] / rates[1] <= times.high,
            ]
        missed += wrong
    assert max(missed) / runs <= allowed(runs)


def test_ratios_of_nothing_say_nothing() -> None:
    nothing, something = Interval(0.0, 0.0, 0.1), Interval(0.2, 0.1, 0.4)
    assert interval_ratio(nothing, nothing) == (1.0, 0.0, math.inf)
    assert interval_ratio(something, nothing) == (math.inf, 1.0, math.inf)
    assert interval_ratio(something, something) == (1.0, 0.25, 4.0)
    assert interval_difference(something, nothing) == pytest.approx((0.2, 0.0, 0.4))


def test_a_doubled_error_rate_shows_in_both() -> None:
    ours, theirs = (proportion_interval(hits, 20_000, ALPHA / 2) for hits in (800, 400))
    assert interval_difference(ours, theirs).low > 0.005
    assert interval_ratio(ours, theirs).low > 1.3
