"""Coverage of the intervals under continuous looks, by simulation; and what a peeked z-test does instead."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sluice.gates.rates import proportion_interval
from sluice.gates.sequential import (
    SampleMoments,
    critical_value,
    difference,
    mean_interval,
    prediction_powered_mean,
    ratio_of_means,
    sample_ratio,
    stratified_difference,
)
from tests.support.coverage import ALPHA, allowed

RUNS = 400


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
    assert missed / RUNS <= allowed(RUNS)


@pytest.mark.parametrize("rate", [0.01, 0.2])
def test_proportion_interval_covers_from_the_first_request(rate: float) -> None:
    draw = np.random.default_rng(2)
    hits = (draw.random((200, 2000)) < rate).cumsum(axis=1)
    looks = [*range(0, 50, 5), *range(50, 2000, 50)]
    missed = 0
    for run in range(200):
        found = [proportion_interval(int(hits[run, k]), k + 1, ALPHA) for k in looks]
        missed += any(not interval.low <= rate <= interval.high for interval in found)
    assert missed / 200 <= allowed(200)


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
        strata: list[tuple[SampleMoments, SampleMoments]] = []
        wrong = False
        for day in range(12):
            weather, share = draw.normal(0.5, 0.3), (0.1, 0.5)[day >= 6]
            arms = [draw.exponential(0.5, int(400 * part)) + weather for part in (share, 1 - share)]
            candidate, stable = (SampleMoments(len(a), float(a.mean()), float(a.var(ddof=1))) for a in arms)
            strata.append((candidate, stable))
            found = difference(strata, ALPHA, 2000)
            wrong |= not found.low <= 0 <= found.high
        missed += wrong
    assert missed / 300 <= allowed(300)


def test_unstratified_difference_would_blame_the_candidate_for_the_weather() -> None:
    calm, storm = SampleMoments(900, 0.3, 0.04), SampleMoments(900, 0.8, 0.04)
    small_calm, small_storm = SampleMoments(100, 0.3, 0.04), SampleMoments(900, 0.8, 0.04)
    apart = difference([(small_calm, calm), (small_storm, storm)], ALPHA, 2000)
    pooled = difference([(SampleMoments(1000, 0.75, 0.06), SampleMoments(1800, 0.55, 0.1))], ALPHA, 2000)
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
    assert once <= allowed(2000)
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


@pytest.mark.parametrize(
    ("ours", "theirs", "alpha", "tuned_at", "low", "high"),
    [
        ((3000, 1200.0, 900.0), (1000, 450.0, 400.0), 0.05, 4000, 0.002551622791241534, 0.09744837720875844),
        ((150, 75.0, 60.0), (600, 280.0, 220.0), 0.02, 1000, -0.15239347863233532, 0.08572681196566867),
    ],
)
def test_a_difference_is_what_gbstats_says(  # noqa: PLR0917  one argument a column
    ours: tuple[int, float, float],
    theirs: tuple[int, float, float],
    alpha: float,
    tuned_at: float,
    low: float,
    high: float,
) -> None:
    """
    ``SequentialTwoSidedTTest(...).compute_result().ci`` of gbstats 0.8.0, whose numpy is too old for the lock.

    Arms are n, sum, sum of squares; gbstats takes theirs minus ours.
    """
    first, second = (_moments(*arm) for arm in (theirs, ours))
    found = difference([(first, second)], alpha, tuned_at)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9)


def _moments(n: int, total: float, squares: float) -> SampleMoments:
    return SampleMoments(n, total / n, (squares - total**2 / n) / (n - 1))


def test_a_ratio_of_means_is_covered_at_every_look() -> None:
    draw, runs, true = np.random.default_rng(6), 200, 1.5
    missed = 0
    for _ in range(runs):
        ours, theirs = draw.gamma(2.0, 3.0, 3000), draw.gamma(2.0, 2.0, 3000)
        wrong = False
        for k in range(100, 3001, 100):
            first, second = (SampleMoments(k, float(a[:k].mean()), float(a[:k].var(ddof=1))) for a in (ours, theirs))
            found = ratio_of_means(first, second, critical_value(2 * k, ALPHA, 2000))
            wrong |= not found.low <= true <= found.high
        missed += wrong
    assert missed / runs <= allowed(runs)
    assert 1.4 < found.low < found.estimate < found.high < 1.6


def test_a_ratio_ends_where_its_contrast_covers_nothing() -> None:
    first, second = SampleMoments(400, 3.0, 4.0), SampleMoments(900, 2.0, 5.0)
    found = ratio_of_means(first, second, 2.5)
    for end in (found.low, found.high):
        scaled = SampleMoments(second.n, end * second.mean, end**2 * second.variance)
        gap = stratified_difference([(first, scaled)])
        assert abs(gap.value) == pytest.approx(2.5 * math.sqrt(gap.variance))
    assert ratio_of_means(first, SampleMoments(40, 0.1, 50.0), 2.5)[1:] == (0.0, math.inf)
    assert ratio_of_means(first, second, math.inf)[1:] == (0.0, math.inf)


def _scored(
    draw: np.random.Generator, n: int, share: float
) -> tuple[SampleMoments, SampleMoments, SampleMoments, float]:
    """Predictions of all, what they miss and what was observed where labels are in, and the mean of all."""
    score = draw.beta(0.6, 1.8, n)
    label = draw.random(n) < score
    loss = -np.log(np.where(label, score, 1 - score).clip(1e-3))
    imputed = -(score * np.log(score.clip(1e-3)) + (1 - score) * np.log((1 - score).clip(1e-3)))
    known = draw.random(n) < share
    parts = (imputed, (loss - imputed)[known], loss[known])
    every, misses, labelled = (SampleMoments(len(a), float(a.mean()), float(a.var(ddof=1))) for a in parts)
    return every, misses, labelled, float(loss.mean())


def test_a_prediction_powered_mean_is_unbiased_and_as_certain_as_it_says() -> None:
    draw = np.random.default_rng(7)
    found = [_scored(draw, 2000, 0.3) for _ in range(600)]
    means = np.array([prediction_powered_mean(every, misses, labelled).mean for every, misses, labelled, _ in found])
    said = np.mean([s.variance / s.n for s in (prediction_powered_mean(*one[:3]) for one in found)])
    alone = np.var([labelled.mean for _, _, labelled, _ in found])
    true = np.mean([mean for *_, mean in found])
    assert means.mean() == pytest.approx(true, abs=4 * means.std() / math.sqrt(600))
    assert said == pytest.approx(means.var(), rel=0.2)
    assert said < 0.95 * alone


def test_a_prediction_powered_difference_is_covered_at_every_look() -> None:
    runs, missed = 200, 0
    draw = np.random.default_rng(8)
    for _ in range(runs):
        strata: list[tuple[SampleMoments, SampleMoments]] = []
        wrong = False
        for _ in range(8):
            strata.append(tuple(prediction_powered_mean(*_scored(draw, 300, share)[:3]) for share in (0.5, 0.8)))  # type: ignore[arg-type]
            found = difference(strata, ALPHA, 2000)
            wrong |= not found.low <= 0 <= found.high
        missed += wrong
    assert missed / runs <= allowed(runs)


def test_with_every_label_in_predictions_change_nothing() -> None:
    every, misses, labelled, _ = _scored(np.random.default_rng(9), 500, 1.1)
    assert prediction_powered_mean(every, misses, labelled) == pytest.approx(labelled)


def test_sample_ratio_stays_calm_at_the_planned_split() -> None:
    draw = np.random.default_rng(5)
    alarms = 0
    for _ in range(RUNS):
        candidate = (draw.random(4000) < 0.1).cumsum()
        alarms += any(
            sample_ratio(int(candidate[k]), k + 1 - int(candidate[k]), 0.1) >= math.log(20) for k in range(0, 4000, 40)
        )
    assert alarms / RUNS <= allowed(RUNS)


def test_sample_ratio_finds_a_broken_split() -> None:
    assert sample_ratio(200, 800, 0.1) >= math.log(1000)
    assert sample_ratio(0, 500, 0.1) >= math.log(1000)
    assert sample_ratio(100, 900, 0.1) < 0
