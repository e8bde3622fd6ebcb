"""The day bootstrap: it covers what it says, pairs what it compares, and makes nothing up."""

from __future__ import annotations

import numpy as np
import pytest

from sluice.documents.evaluation import Estimate
from sluice.evaluation.intervals import RESAMPLES, DayResamples, ScoredModel, measure
from sluice.evaluation.metrics import exact_metrics


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
        labels, ScoredModel.of("model", scores, threshold), DayResamples.draw(days, seed, resamples)
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
    resamples = DayResamples.draw(day, 1)
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
    found = measure(labels, ScoredModel.of("a", scores, 0.4), DayResamples.draw(day, 1), rows).estimates()
    assert set(found) == {"log_loss", "ece"}


def test_one_positive_in_a_slice_is_not_enough_for_a_ranking_metric() -> None:
    labels, scores, day = _world(9, 20)
    rows = np.r_[np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[:1]]
    found = measure(labels, ScoredModel.of("a", scores, 0.4), DayResamples.draw(day, 1), rows).estimates()
    assert "auc" not in found
    assert "recall" not in found
