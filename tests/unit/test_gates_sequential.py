"""Coverage of the intervals under continuous looks, by simulation; and what a peeked z-test does instead."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sluice.gates.rates import proportion_interval
from sluice.gates.sequential import Sample, difference, mean_interval, sample_ratio

ALPHA = 0.05
RUNS = 400


def _allowed(alpha: float, runs: int) -> float:
    """The rate that a fair coin of rate alpha exceeds in one of a thousand simulations."""
    return alpha + 3.1 * math.sqrt(alpha * (1 - alpha) / runs)


@pytest.mark.parametrize("skewed", [False, True])
def test_mean_interval_covers_at_every_look(skewed: bool) -> None:
    draw = np.random.default_rng(1)
    values = draw.exponential(0.4, (RUNS, 3000)) if skewed else draw.normal(0.4, 1.0, (RUNS, 3000))
    n = np.arange(1, 3001)
    means = values.cumsum(axis=1) / n
    variances = (values**2).cumsum(axis=1) / n - means**2
    looks = range(99, 3000, 10)
    missed = sum(
        any(
            not (found := mean_interval(means[run, k], variances[run, k], k + 1, ALPHA, 1000)).low <= 0.4 <= found.high
            for k in looks
        )
        for run in range(RUNS)
    )
    assert missed / RUNS <= _allowed(ALPHA, RUNS)


@pytest.mark.parametrize("rate", [0.01, 0.2])
def test_proportion_interval_covers_from_the_first_request(rate: float) -> None:
    draw = np.random.default_rng(2)
    hits = (draw.random((200, 2000)) < rate).cumsum(axis=1)
    looks = [*range(0, 50, 5), *range(50, 2000, 50)]
    missed = 0
    for run in range(200):
        found = [proportion_interval(int(hits[run, k]), k + 1, ALPHA) for k in looks]
        missed += any(not interval.low <= rate <= interval.high for interval in found)
    assert missed / 200 <= _allowed(ALPHA, 200)


def test_proportion_interval_is_exact_at_the_ends_and_shrinks() -> None:
    none, all_of_them = proportion_interval(0, 100, ALPHA), proportion_interval(100, 100, ALPHA)
    assert (none.low, all_of_them.high) == (0.0, 1.0)
    assert none.high == pytest.approx(1 - all_of_them.low, abs=1e-9)
    widths = [
        interval.high - interval.low
        for n in (100, 1000, 10000)
        for interval in [proportion_interval(n // 50, n, ALPHA)]
    ]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.02


def test_stratified_difference_covers_though_days_and_weights_change() -> None:
    draw = np.random.default_rng(3)
    missed = 0
    for _ in range(300):
        strata: list[tuple[Sample, Sample]] = []
        wrong = False
        for day in range(12):
            weather, share = draw.normal(0.5, 0.3), (0.1, 0.5)[day >= 6]
            arms = [draw.exponential(0.5, int(400 * part)) + weather for part in (share, 1 - share)]
            candidate, stable = (Sample(len(a), float(a.mean()), float(a.var(ddof=1))) for a in arms)
            strata.append((candidate, stable))
            found = difference(strata, ALPHA, 2000)
            wrong |= not found.low <= 0 <= found.high
        missed += wrong
    assert missed / 300 <= _allowed(ALPHA, 300)


def test_unstratified_difference_would_blame_the_candidate_for_the_weather() -> None:
    calm, storm = Sample(900, 0.3, 0.04), Sample(900, 0.8, 0.04)
    small_calm, small_storm = Sample(100, 0.3, 0.04), Sample(900, 0.8, 0.04)
    apart = difference([(small_calm, calm), (small_storm, storm)], ALPHA, 2000)
    pooled = difference([(Sample(1000, 0.75, 0.06), Sample(1800, 0.55, 0.1))], ALPHA, 2000)
    assert apart.low <= 0 <= apart.high
    assert pooled.low > 0


def test_a_z_test_that_is_peeked_at_cries_wolf() -> None:
    draw = np.random.default_rng(4)
    n = np.arange(100, 2001, 100)
    means = draw.normal(0, 1, (2000, 2000)).cumsum(axis=1)[:, n - 1] / n
    once = np.mean(np.abs(means[:, -1]) > 1.96 / math.sqrt(2000))
    peeked = np.mean((np.abs(means) > 1.96 / np.sqrt(n)).any(axis=1))
    ours = np.mean(
        [
            any(abs(m) > mean_interval(0.0, 1.0, k, ALPHA, 1000).high for m, k in zip(row, n.tolist(), strict=True))
            for row in means[:500]
        ]
    )
    assert once <= _allowed(ALPHA, 2000)
    assert peeked > 3 * ALPHA
    assert ours <= ALPHA


def test_mean_interval_is_narrowest_where_it_is_tuned() -> None:
    at_500 = [mean_interval(0, 1, 500, ALPHA, tuned).high for tuned in (50, 500, 50_000)]
    assert min(at_500) == at_500[1]
    assert at_500[1] < 2 * 1.96 / math.sqrt(500)


def test_half_width_agrees_with_the_published_formula() -> None:
    # computed apart from the code: alpha 0.05, n* = 1000, n = 2000, variance 0.25
    rho2 = (-2 * math.log(0.05) + math.log(-2 * math.log(0.05) + 1)) / 1000
    half = math.sqrt(0.25) * math.sqrt(
        2 * (2000 * rho2 + 1) / (2000**2 * rho2) * math.log(math.sqrt(2000 * rho2 + 1) / 0.05)
    )
    assert mean_interval(0.1, 0.25, 2000, 0.05, 1000).high == pytest.approx(0.1 + half)


def test_sample_ratio_stays_calm_at_the_planned_split() -> None:
    draw = np.random.default_rng(5)
    alarms = 0
    for _ in range(RUNS):
        candidate = (draw.random(4000) < 0.1).cumsum()
        alarms += any(
            sample_ratio(int(candidate[k]), k + 1 - int(candidate[k]), 0.1) >= math.log(20) for k in range(0, 4000, 40)
        )
    assert alarms / RUNS <= _allowed(ALPHA, RUNS)


def test_sample_ratio_finds_a_broken_split() -> None:
    assert sample_ratio(200, 800, 0.1) >= math.log(1000)
    assert sample_ratio(0, 500, 0.1) >= math.log(1000)
    assert sample_ratio(100, 900, 0.1) < 0
