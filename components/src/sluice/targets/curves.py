"""Points to draw: ROC, precision against recall, reliability, values."""

from __future__ import annotations

import math

import numpy as np

from sluice.arrays import Floats, Ints
from sluice.documents.evaluation import CalibrationBin, Confusion, Curves
from sluice.targets.probabilities import ECE_BINS, bins_of_equal_mass, counts_by_score

_POINTS = 200
_Z = 1.959964
_DECIMALS = 6


def curves(labels: Ints, scores: Floats, threshold: float) -> Curves:
    """
    All curves of one model; the point of its threshold is on the ROC curve. One class only: no ROC, no PR curve.

    Args:
        labels: (n,) 0 or 1. scores: (n,) finite.
        threshold: positive at or above.
    """
    distinct, positives, negatives = counts_by_score(labels, scores)
    hits, misses = np.cumsum(positives[::-1]), np.cumsum(negatives[::-1])
    if not (hits.size and hits[-1] and misses[-1]):
        return Curves(roc=(), precision_recall=(), reliability=reliability(labels, scores))
    recall, fall_out = hits / hits[-1], misses / misses[-1]
    above_all = 1.0 if distinct[-1] < 1 else math.nextafter(distinct[-1], math.inf)
    thresholds = np.r_[above_all, distinct[::-1]]
    operating = int((distinct >= threshold).sum())
    thresholds[operating] = threshold
    x, y = np.r_[0.0, fall_out], np.r_[0.0, recall]
    places = _spread(x, operating)
    return Curves(
        roc=_points(x, y, places),
        roc_thresholds=tuple(thresholds[places].tolist()),
        precision_recall=_points(recall, hits / (hits + misses), _spread(recall)),
        reliability=reliability(labels, scores),
    )


def confusion(labels: Ints, scores: Floats, threshold: float) -> Confusion:
    """The rows by label and by decision; shapes as in ``curves``."""
    alarms = scores >= threshold
    hits, rows = int(labels[alarms].sum()), int(labels.sum())
    false_alarms = int(alarms.sum()) - hits
    return Confusion(
        true_negatives=labels.size - rows - false_alarms,
        false_positives=false_alarms,
        false_negatives=rows - hits,
        true_positives=hits,
    )


def wilson(hits: int, n: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share (Wilson 1927)."""
    rate, z2 = hits / n, _Z**2
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def reliability(labels: Ints, scores: Floats) -> tuple[CalibrationBin, ...]:
    """The bars of a reliability curve; shapes as in ``curves``."""
    groups = bins_of_equal_mass(scores, ECE_BINS)
    return tuple(_bar(labels[groups == group], scores[groups == group]) for group in np.unique(groups))


def _bar(labels: Ints, scores: Floats) -> CalibrationBin:
    hits, n = int(labels.sum()), labels.size
    low, high = (round(end, _DECIMALS) for end in wilson(hits, n))
    mean = round(float(scores.mean()), _DECIMALS)
    return CalibrationBin(mean_score=mean, rate=round(hits / n, _DECIMALS), low=low, high=high, n=n)


def _spread(x: Floats, *needed: int) -> Ints:
    """Places of at most 200 points, evenly spread along x, the first, the last and those that are needed kept."""
    if x.size <= _POINTS:
        return np.arange(x.size)
    places = np.searchsorted(x, np.linspace(x[0], x[-1], _POINTS - 1 - len(needed))).clip(0, x.size - 1)
    return np.union1d(places, [0, x.size - 1, *needed])


def _points(x: Floats, y: Floats, places: Ints) -> tuple[tuple[float, float], ...]:
    pairs = zip(x[places], y[places], strict=True)
    return tuple((round(float(a), _DECIMALS), round(float(b), _DECIMALS)) for a, b in pairs)
