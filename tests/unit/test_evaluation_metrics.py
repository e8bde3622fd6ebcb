"""Our metrics against scikit-learn's, and what happens where they are not defined."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sluice.targets.curves import confusion, curves, wilson
from sluice.targets.probabilities import best_threshold, bins_of_equal_mass, exact_metrics
from sluice.training.curve import auc


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
    drawn = curves(labels, scores, 0.5)
    assert drawn.roc[0] == (0.0, 0.0)
    assert drawn.roc[-1] == (1.0, 1.0)
    assert drawn.precision_recall[-1][0] == 1
    assert len(drawn.roc) <= 200
    assert len(drawn.precision_recall) <= 200
    area = np.trapezoid([y for _, y in drawn.roc], [x for x, _ in drawn.roc])
    assert area == pytest.approx(oracle.roc_auc_score(labels, scores), abs=0.005)
    assert sum(bar.n for bar in drawn.reliability) == 5000
    assert all(bar.low <= bar.rate <= bar.high for bar in drawn.reliability)


@pytest.mark.parametrize(("n", "distinct"), [(5000, 10**9), (400, 7), (60, 10**9)])
@pytest.mark.parametrize("threshold", [0.3123, 0.0, 1.0])
def test_every_point_of_the_roc_curve_is_what_its_threshold_gives(n: int, distinct: int, threshold: float) -> None:
    labels, scores = _rows(4, n, distinct)
    drawn = curves(labels, scores, threshold)
    assert threshold in drawn.roc_thresholds
    assert len(drawn.roc) <= 200
    for (false_alarms, hits), cut in zip(drawn.roc, drawn.roc_thresholds, strict=True):
        alarms = scores >= cut
        assert false_alarms == pytest.approx(alarms[labels == 0].mean(), abs=1e-6)
        assert hits == pytest.approx(alarms[labels == 1].mean(), abs=1e-6)


def test_ranking_of_one_class_is_not_known() -> None:
    logits = np.array([0.1, 0.4, 0.2])
    assert auc(np.array([0, 1, 1], np.float32), logits) == 1
    assert auc(np.ones(3, np.float32), logits) is None


def test_a_score_of_one_is_below_the_first_threshold() -> None:
    drawn = curves(np.array([0, 1]), np.array([0.2, 1.0]), 0.6)
    assert list(drawn.roc) == [(0, 0), (0, 1), (1, 1)]
    first, *others = drawn.roc_thresholds
    assert first > 1
    assert others == [0.6, 0.2]


@pytest.mark.parametrize(
    ("threshold", "rows"),
    [
        (0.5, [[140, 20], [10, 30]]),
        (0.95, [[155, 5], [40, 0]]),  # only false alarms: precision and recall are 0
        (1.0, [[160, 0], [40, 0]]),  # no alarm at all: no precision
    ],
)
def test_the_confusion_matrix_counts_rows(threshold: float, rows: list[list[int]]) -> None:
    scores = np.repeat([0.99, 0.6, 0.9, 0.2, 0.4], [5, 15, 30, 140, 10])
    labels = np.repeat([0, 0, 1, 0, 1], [5, 15, 30, 140, 10])
    assert confusion(labels, scores, threshold).rows == rows


def test_curves_of_one_class_are_empty() -> None:
    drawn = curves(np.ones(20, np.int64), np.linspace(0, 1, 20), 0.5)
    assert len(drawn.roc) + len(drawn.precision_recall) == 0
    assert sum(bar.n for bar in drawn.reliability) == 20


def test_wilson_interval_of_ten_in_a_hundred() -> None:
    assert wilson(10, 100) == pytest.approx((0.0552, 0.1744), abs=1e-4)
