"""The day bootstrap: it covers what it says, pairs what it compares, and makes nothing up."""

from __future__ import annotations

import numpy as np
import pytest

from sluice.documents.evaluation import Estimate
from sluice.evaluation.day_runs import best_length, days_in_runs, effective_runs, mean_run_days
from sluice.evaluation.intervals import RESAMPLES, DayResamples, ScoredModel, measure
from sluice.targets.probabilities import exact_metrics, log_losses


def _world(seed: int, days: int, tilt: float = 0.6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of one day share a shift of the log odds: labels (n,), scores (n,), days (n,)."""
    rng = np.random.default_rng(seed)
    day = np.repeat(np.arange(days), rng.integers(30, 90, days))
    signal = rng.normal(0, 1, day.size)
    odds = signal - 1 + rng.normal(0, 0.7, days)[day]
    labels = (rng.random(day.size) < 1 / (1 + np.exp(-odds))).astype(np.int64)
    return labels, 1 / (1 + np.exp(-(signal - 1) * tilt)), day


def day_bootstrap(
    labels: np.ndarray, scores: np.ndarray, days: np.ndarray, *, threshold: float, seed: int, resamples: int = RESAMPLES
) -> dict[str, Estimate]:
    """All metrics of one model with 95 % intervals; ``days`` (n,) are codes from 0."""
    return measure(
        labels, ScoredModel.of("model", scores, threshold), DayResamples.draw(days, (), seed, resamples)
    ).estimates()


@pytest.mark.parametrize("days", [12, 31])
def test_intervals_cover_the_truth_although_days_are_clustered(days: int) -> None:
    labels, scores, _ = _world(99, 8000)
    truth = exact_metrics(labels, scores, 0.4)
    hits = dict.fromkeys(truth, 0)
    worlds = 250
    for seed in range(worlds):
        labels, scores, day = _world(seed, days)
        found = day_bootstrap(labels, scores, day, threshold=0.4, seed=1, resamples=250)
        for name, value in truth.items():
            hits[name] += found[name].low <= value <= found[name].high
    del hits["ece"]  # judged by its upper end, below
    assert all(0.90 <= count / worlds <= 0.99 for count in hits.values()), hits


def test_upper_end_of_the_calibration_error_is_safe() -> None:
    labels, scores, _ = _world(99, 8000)
    truth = exact_metrics(labels, scores, 0.4)["ece"]
    worlds = [day_bootstrap(*_world(seed, 31), threshold=0.4, seed=1, resamples=250)["ece"] for seed in range(100)]
    assert sum(found.high >= truth for found in worlds) >= 95
    assert sum(found.low <= truth for found in worlds) >= 90


def test_rows_taken_as_independent_would_be_too_narrow() -> None:
    labels, scores, day = _world(3, 31)
    by_day = day_bootstrap(labels, scores, day, threshold=0.4, seed=1)["log_loss"]
    by_row = 2 * 1.96 * np.std(-np.log(np.where(labels == 1, scores, 1 - scores))) / np.sqrt(labels.size)
    assert by_day.high - by_day.low > 1.3 * by_row


def test_differences_are_paired_by_day() -> None:
    labels, scores, day = _world(4, 31)
    resamples = DayResamples.draw(day, (), 1)
    first = measure(labels, ScoredModel.of("a", scores, 0.4), resamples)
    second = measure(labels, ScoredModel.of("b", np.clip(scores * 1.02, 0, 1), 0.4), resamples)
    difference = first.minus(second)["log_loss"]
    alone = first.estimates()["log_loss"]
    assert difference.high - difference.low < (alone.high - alone.low) / 10
    assert first.minus(first)["auc"].model_dump() == {"value": 0, "low": 0, "high": 0, "n": labels.size}


def test_the_value_is_exact_and_inside_its_interval() -> None:
    labels, scores, day = _world(5, 20)
    exact = exact_metrics(labels, scores, 0.4)
    intervals = day_bootstrap(labels, scores, day, threshold=0.4, seed=1)
    assert intervals
    assert {name: found.value for name, found in intervals.items()} == {
        name: pytest.approx(exact[name], abs=1e-6) for name in intervals
    }
    assert [name for name, found in intervals.items() if not found.low <= found.value <= found.high] == []


def test_same_seed_same_interval_and_another_seed_another() -> None:
    labels, scores, day = _world(6, 20)
    first, again, other = (day_bootstrap(labels, scores, day, threshold=0.4, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_few_days_give_nothing_rather_than_something() -> None:
    labels, scores, day = _world(7, 4)
    assert day_bootstrap(labels, scores, day, threshold=0.4, seed=1) == {}


def test_a_slice_of_one_class_has_no_ranking_metric() -> None:
    labels, scores, day = _world(8, 20)
    rows = np.flatnonzero(labels == 0)
    found = measure(labels, ScoredModel.of("a", scores, 0.4), DayResamples.draw(day, (), 1), rows).estimates()
    assert set(found) == {"log_loss", "ece"}


def test_one_positive_in_a_slice_is_not_enough_for_a_ranking_metric() -> None:
    labels, scores, day = _world(9, 20)
    rows = np.r_[np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[:1]]
    found = measure(labels, ScoredModel.of("a", scores, 0.4), DayResamples.draw(day, (), 1), rows).estimates()
    assert "auc" not in found
    assert "recall" not in found


def _in_turn(rng: np.random.Generator, days: int, lag_one: float) -> np.ndarray:
    """(days,) of variance 1, each correlated with the one before."""
    values = rng.normal(0, 1, days)
    for day in range(1, days):
        values[day] = lag_one * values[day - 1] + np.sqrt(1 - lag_one**2) * values[day]
    return values


def _difference(loss: np.ndarray, more: np.ndarray, in_runs: bool) -> tuple[Estimate, float]:
    """Of two models whose log losses by day are ``loss`` + ``more`` and ``loss`` (D,): one row of each class a day."""
    day, labels = np.repeat(np.arange(loss.size), 2), np.tile([1, 0], loss.size)
    likely = [np.exp(-np.repeat(values, 2)) for values in (loss + more, loss)]
    scores = [np.where(labels == 1, values, 1 - values) for values in likely]
    losses = [log_losses(labels, values) for values in scores]
    series = (losses[0], losses[0] - losses[1]) if in_runs else ()
    resamples = DayResamples.draw(day, series, 1, 200)
    first, second = (measure(labels, ScoredModel.of("model", values, 0.5), resamples) for values in scores)
    return first.minus(second)["log_loss"], resamples.mean_run


def _worlds(lag_one: float, days: int, worlds: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Losses of one model by day, and how much more those of another are: 0 in the long run."""
    rng = np.random.default_rng(days)
    return [(0.7 + 0.04 * _in_turn(rng, days, lag_one), 0.03 * _in_turn(rng, days, lag_one)) for _ in range(worlds)]


def _coverage(worlds: list[tuple[np.ndarray, np.ndarray]], in_runs: bool) -> float:
    intervals = [_difference(*world, in_runs)[0] for world in worlds]
    return sum(interval.low <= 0 <= interval.high for interval in intervals) / len(worlds)


@pytest.mark.parametrize(("lag_one", "days"), [(0.4, 60), (0.7, 90)])
def test_runs_cover_the_truth_where_days_depend_and_single_days_do_not(lag_one: float, days: int) -> None:
    worlds = _worlds(lag_one, days, 120)
    assert _coverage(worlds, in_runs=True) >= 0.93
    assert _coverage(worlds[:40], in_runs=False) <= 0.87


def test_days_that_do_not_depend_keep_their_intervals() -> None:
    widths = []
    for world in _worlds(0, 60, 60):
        (runs, mean_run), (alone, _) = (_difference(*world, in_runs) for in_runs in (True, False))
        widths.append((runs.high - runs.low) / (alone.high - alone.low))
        assert mean_run > 1 or runs == alone
    assert np.median(widths) == 1
    assert np.mean(widths) < 1.1


def test_the_length_is_that_of_politis_and_white() -> None:
    rng, days = np.random.default_rng(1), 10_000
    for lag_one in (0.3, 0.5, 0.7):
        neighbours = 2 * lag_one / (1 - lag_one**2)  # Σ |k| R(k) ÷ Σ R(k) of such a series
        assert best_length(_in_turn(rng, days, lag_one)) == pytest.approx(np.cbrt(neighbours**2 * days), rel=0.15)
    assert best_length(_in_turn(rng, days, -0.5)) == 1
    assert best_length(np.ones(60)) == 1


def test_the_series_that_depends_the_longest_says_how_long_runs_are() -> None:
    rng = np.random.default_rng(2)
    alone, dependent = rng.permutation(np.sin(np.arange(60))), _in_turn(rng, 60, 0.6)
    assert mean_run_days([]) == mean_run_days([alone]) == 1
    assert mean_run_days([alone, dependent]) == mean_run_days([dependent, alone]) == mean_run_days([dependent]) > 3
    for days in (5, 8, 20, 60):
        trend = np.arange(days).astype(np.float64)
        assert effective_runs(np.arange(days), mean_run_days([trend])) >= 4


def test_a_resample_has_runs_of_the_length_and_as_many_days() -> None:
    for mean_run in (1, 2.5, 8):
        places = days_in_runs(np.random.default_rng(1), 60, mean_run, (400, 60))
        in_turn = float(np.mean(np.diff(places, axis=1) % 60 == 1))
        assert in_turn == pytest.approx(1 - (1 - 1 / 60) / mean_run, abs=0.01)
        assert np.bincount(places.ravel(), minlength=60) == pytest.approx(400, rel=0.4)
    slow = np.arange(60).astype(np.float64)
    resamples = DayResamples.draw(np.arange(60), [slow], 1)
    assert resamples.mean_run == 8
    assert (resamples.weights.sum(axis=1) == 60).all()


def test_few_runs_widen_as_few_days_do_and_days_apart_are_worth_more() -> None:
    assert effective_runs(np.arange(31), 1) == 31
    assert effective_runs(np.arange(600), 5) == pytest.approx(600 / 9, rel=0.02)
    assert effective_runs(np.arange(0, 600, 60), 5) == pytest.approx(10, rel=0.01)
    labels, scores, day = _world(10, 60)
    slow = np.sin(day / 8)
    resamples = DayResamples.draw(day, [slow], 1)
    in_a_row, apart = (np.flatnonzero(np.isin(day, days)) for days in (np.arange(8), np.arange(0, 60, 7)))
    model = ScoredModel.of("a", scores, 0.4)
    assert measure(labels, model, resamples, in_a_row).estimates() == {}
    assert "log_loss" in measure(labels, model, resamples, apart).estimates()
