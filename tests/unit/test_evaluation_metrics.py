"""Our metrics against scikit-learn's, and what happens where they are not defined."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sluice.evaluation.curves import curves, wilson
from sluice.evaluation.metrics import best_threshold, bins_of_equal_mass, exact_metrics


@pytest.fixture(scope="module")
def oracle() -> Any:
    """scikit-learn's metrics; two seconds that only the process of these tests pays."""
    import sklearn.metrics

    return sklearn.metrics


def _rows(seed: int, n: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = np.round(rng.random(n) * levels) / levels
    return (rng.random(n) < scores * 0.8 + 0.05).astype(np.int64), scores


@pytest.mark.parametrize("levels", [3, 50, 10**9])
@pytest.mark.parametrize("n", [40, 5000])
def test_values_equal_scikit_learns(oracle: Any, n: int, levels: int) -> None:
    labels, scores = _rows(1, n, levels)
    found = exact_metrics(labels, scores, 0.5)
    assert found["auc"] == pytest.approx(oracle.roc_auc_score(labels, scores), abs=1e-12)
    assert found["pr_auc"] == pytest.approx(oracle.average_precision_score(labels, scores), abs=1e-12)
    assert found["log_loss"] == pytest.approx(oracle.log_loss(labels, np.clip(scores, 1e-7, 1 - 1e-7)), abs=1e-12)
    assert found["precision"] == pytest.approx(oracle.precision_score(labels, scores >= 0.5))
    assert found["recall"] == pytest.approx(oracle.recall_score(labels, scores >= 0.5))


def test_calibration_error_by_hand() -> None:
    labels = np.array([0, 1, 0, 1, 1, 1])
    scores = np.array([0.2, 0.2, 0.2, 0.9, 0.9, 0.9])
    assert exact_metrics(labels, scores, 0.5)["ece"] == pytest.approx((3 * (1 / 3 - 0.2) + 3 * 0.1) / 6)


def test_one_class_has_no_ranking_metric() -> None:
    found = exact_metrics(np.zeros(20, np.int64), np.linspace(0, 1, 20), 0.5)
    assert set(found) == {"log_loss", "ece"}
    assert exact_metrics(np.empty(0, np.int64), np.empty(0), 0.5) == {}


def test_no_precision_where_nothing_is_flagged() -> None:
    labels, scores = _rows(2, 100, 50)
    found = exact_metrics(labels, scores, 2.0)
    assert "precision" not in found
    assert found["recall"] == 0


def test_equal_scores_share_a_bin_and_bins_are_of_equal_mass() -> None:
    scores = np.r_[np.full(500, 0.3), np.linspace(0, 1, 1500)]
    bins = bins_of_equal_mass(scores, 10)
    assert np.unique(bins[scores == 0.3]).size == 1
    spread = bins_of_equal_mass(np.random.default_rng(1).random(1000), 10)
    assert np.bincount(spread).tolist() == [100] * 10


def test_threshold_maximises_f1_over_every_other(oracle: Any) -> None:
    labels, scores = _rows(3, 400, 10**9)
    best = best_threshold(labels, scores)
    reached = oracle.f1_score(labels, scores >= best)
    assert reached == pytest.approx(max(oracle.f1_score(labels, scores >= score) for score in scores))
    assert best not in scores


def test_threshold_without_positives_or_with_nan_is_the_middle() -> None:
    assert best_threshold(np.zeros(3, np.int64), np.array([0.1, 0.2, 0.3])) == 0.5
    assert best_threshold(np.array([0, 1]), np.array([0.1, np.nan])) == 0.5


def test_curves_start_and_end_where_they_must_and_stay_short(oracle: Any) -> None:
    labels, scores = _rows(4, 5000, 10**9)
    drawn = curves(labels, scores)
    assert drawn.roc[0] == (0.0, 0.0)
    assert drawn.roc[-1] == (1.0, 1.0)
    assert drawn.precision_recall[-1][0] == 1
    assert len(drawn.roc) <= 200
    assert len(drawn.precision_recall) <= 200
    area = np.trapezoid([y for _, y in drawn.roc], [x for x, _ in drawn.roc])
    assert area == pytest.approx(oracle.roc_auc_score(labels, scores), abs=0.005)
    assert sum(bar.n for bar in drawn.reliability) == 5000
    assert all(bar.low <= bar.rate <= bar.high for bar in drawn.reliability)


def test_curves_of_one_class_are_empty() -> None:
    drawn = curves(np.ones(20, np.int64), np.linspace(0, 1, 20))
    assert len(drawn.roc) + len(drawn.precision_recall) == 0
    assert sum(bar.n for bar in drawn.reliability) == 20


def test_wilson_interval_of_ten_in_a_hundred() -> None:
    assert wilson(10, 100) == pytest.approx((0.0552, 0.1744), abs=1e-4)
