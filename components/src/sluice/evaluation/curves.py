"""Points to draw: ROC, precision against recall, reliability."""

from __future__ import annotations

import math

import numpy as np

from sluice.arrays import Floats, Ints
from sluice.documents.evaluation import CalibrationBin, Curves, Evaluation
from sluice.evaluation.metrics import ECE_BINS, bins_of_equal_mass, counts_by_score

_POINTS = 200
_Z = 1.959964
_DECIMALS = 6


def curves(labels: Ints, scores: Floats) -> Curves:
    """All curves of one model; ``labels`` (n,) 0 or 1, ``scores`` (n,) finite. One class only: no ROC, no PR curve."""
    _, positives, negatives = counts_by_score(labels, scores)
    hits, misses = np.cumsum(positives[::-1]), np.cumsum(negatives[::-1])
    if not (hits.size and hits[-1] and misses[-1]):
        return Curves(roc=(), precision_recall=(), reliability=_reliability(labels, scores))
    recall, fall_out = hits / hits[-1], misses / misses[-1]
    roc = _thin(np.r_[0.0, fall_out], np.r_[0.0, recall])
    precision_recall = _thin(recall, hits / (hits + misses))
    return Curves(roc=roc, precision_recall=precision_recall, reliability=_reliability(labels, scores))


def wilson(hits: int, n: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share (Wilson 1927)."""
    rate, z2 = hits / n, _Z**2
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def _reliability(labels: Ints, scores: Floats) -> tuple[CalibrationBin, ...]:
    groups = bins_of_equal_mass(scores, ECE_BINS)
    return tuple(_bar(labels[groups == group], scores[groups == group]) for group in np.unique(groups))


def _bar(labels: Ints, scores: Floats) -> CalibrationBin:
    hits, n = int(labels.sum()), labels.size
    low, high = (round(end, _DECIMALS) for end in wilson(hits, n))
    mean = round(float(scores.mean()), _DECIMALS)
    return CalibrationBin(mean_score=mean, rate=round(hits / n, _DECIMALS), low=low, high=high, n=n)


def _thin(x: Floats, y: Floats) -> tuple[tuple[float, float], ...]:
    """At most 200 points, evenly spread along x, first and last kept."""
    if x.size > _POINTS:
        indices = np.unique(np.searchsorted(x, np.linspace(x[0], x[-1], _POINTS - 1)).clip(0, x.size - 1))
        indices = np.union1d(indices, [0, x.size - 1])[:_POINTS]
        x, y = x[indices], y[indices]
    return tuple((round(float(a), _DECIMALS), round(float(b), _DECIMALS)) for a, b in zip(x, y, strict=True))


def confusion(evaluation: Evaluation) -> list[list[int]]:
    """
    Rows of the holdout by label and by decision at the threshold: ``[[TN, FP], [FN, TP]]``.

    Empty where precision or recall is not defined.
    """
    if not {"precision", "recall"} <= evaluation.metrics.keys():
        return []
    precision, recall = evaluation.metrics["precision"].value, evaluation.metrics["recall"].value
    hits = round(recall * evaluation.positives)
    alarms = round(hits / precision) - hits if precision else 0
    return [[evaluation.n - evaluation.positives - alarms, alarms], [evaluation.positives - hits, hits]]
