"""
Metrics and thresholds of probabilities of yes or no, from counts by score: one formula serves the exact value and every
resample.

Shapes: ``labels`` (n,) of 0 and 1; ``scores`` (n,) float64 probabilities; counts (..., b) by ascending score.
A metric that is not defined on the rows (one class only, nothing predicted positive) is NaN in an array and absent from
a dictionary: no value is made up.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sluice.arrays import Floats, Ints
from sluice.targets.sums import Summation, ratio

SCORE_BINS = 200
"""Scores are binned for resamples alone: ranking metrics lose nothing that matters by so many bins of equal mass."""
ECE_BINS = 15
"""Bins of the calibration error: equal in rows, not in width, so that no bin is judged by a handful of rows."""
CLIP = 1e-7
"""Probabilities are held this far from 0 and 1 in the log loss: float32 tells no finer ones apart at the upper end."""


def counts_by_score(labels: Ints, scores: Floats) -> tuple[Floats, Floats, Floats]:
    """Distinct scores, ascending, with the positives and the negatives at each: three arrays (b,)."""
    order = np.argsort(scores, kind="stable")
    ordered, hits = scores[order], labels[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if ordered.size else np.empty(0, np.int64)
    positives = np.add.reduceat(hits, starts).astype(np.float64) if starts.size else np.empty(0)
    totals = np.diff(np.r_[starts, ordered.size]).astype(np.float64)
    return ordered[starts], positives, totals - positives


def auc_of_counts(positives: Floats, negatives: Floats) -> Floats:
    """
    Area under the ROC curve (Mann-Whitney: P(score of a positive > score of a negative), ties count one half).

    Args:
        positives, negatives: (..., b) counts by ascending score.

    Returns:
        (...,); NaN where one class is missing.
    """
    below = np.cumsum(negatives, axis=-1) - negatives / 2
    pairs = positives.sum(axis=-1) * negatives.sum(axis=-1)
    return ratio((positives * below).sum(axis=-1), pairs)


def average_precision_of_counts(positives: Floats, negatives: Floats) -> Floats:
    """
    Average precision, sum over thresholds of (recall gained) times (precision there), without interpolation.

    Args:
        positives, negatives: (..., b) counts by ascending score.

    Returns:
        (...,); NaN where there is no positive.
    """
    hits = np.cumsum(positives[..., ::-1], axis=-1)
    alarms = hits + np.cumsum(negatives[..., ::-1], axis=-1)
    precision = np.divide(hits, alarms, out=np.zeros_like(hits), where=alarms > 0)
    return ratio((positives[..., ::-1] * precision).sum(axis=-1), positives.sum(axis=-1))


def ece_of_sums(counts: Floats, score_sums: Floats, label_sums: Floats) -> Floats:
    """Expected calibration error: mean over rows of |mean score - observed rate| of the row's bin; (..., bins) each."""
    return ratio(np.abs(score_sums - label_sums).sum(axis=-1), counts.sum(axis=-1))


def log_losses(labels: Ints, scores: Floats) -> Floats:
    """The log loss of each row in nats, (n,)."""
    clipped = np.clip(scores, CLIP, 1 - CLIP)
    return -np.log(np.where(labels == 1, clipped, 1 - clipped))


def entropies(scores: Floats) -> Floats:
    """The log loss of each score in nats if it were the true probability, in the shape of ``scores``."""
    clipped = np.clip(scores, CLIP, 1 - CLIP)
    return np.asarray(-(clipped * np.log(clipped) + (1 - clipped) * np.log(1 - clipped)))


def are_shares(values: Floats) -> NDArray[np.bool_]:
    """(n,) whether every number of a row (n, k) is from 0 to 1."""
    return np.asarray(((values >= 0) & (values <= 1)).all(axis=1))


def bins_of_equal_mass(scores: Floats, bins: int) -> Ints:
    """The bin of each row, (n,), when distinct scores are cut into at most ``bins`` groups of about as many rows."""
    ordered = np.sort(scores)
    cuts = ordered[(np.arange(1, bins) * ordered.size) // bins] if ordered.size else ordered
    return np.searchsorted(np.unique(cuts), scores, side="right")


def exact_metrics(labels: Ints, scores: Floats, threshold: float) -> dict[str, float]:
    """Every metric of a binary target that is defined on these rows. Scores must be finite."""
    if not labels.size:
        return {}
    _, positives, negatives = counts_by_score(labels, scores)
    values = {
        "auc": float(auc_of_counts(positives, negatives)),
        "pr_auc": float(average_precision_of_counts(positives, negatives)),
        "log_loss": float(log_losses(labels, scores).mean()),
        "ece": _ece(labels, scores),
        **dict(zip(("precision", "recall"), _at_threshold(labels, scores, threshold), strict=True)),
    }
    if not 0 < positives.sum() < labels.size:
        values = {name: value for name, value in values.items() if name in ("log_loss", "ece")}
    return {name: value for name, value in values.items() if np.isfinite(value)}


def best_threshold(labels: Ints, scores: Floats) -> float:
    """
    The threshold (positive at or above) with the highest F1 on these rows; of equals, the highest threshold.

    It lies half-way between two scores that occur, so that the last bits of a score do not decide. Without a positive
    label, or with scores that are not finite, it is 0.5.

    Args:
        labels: (n,) 0 or 1. scores: (n,) probabilities.
    """
    if not np.isfinite(scores).all() or not labels.any():
        return 0.5
    distinct, positives, negatives = counts_by_score(labels, scores)
    hits = np.cumsum(positives[::-1])
    f1 = 2 * hits / (np.cumsum((positives + negatives)[::-1]) + positives.sum())
    best = distinct.size - 1 - int(np.argmax(f1))
    below = distinct[best - 1] if best else 0.0
    return float((distinct[best] + below) / 2)


def _ece(labels: Ints, scores: Floats) -> float:
    groups = bins_of_equal_mass(scores, ECE_BINS)
    sums = [
        np.bincount(groups, weights=weights).astype(np.float64) for weights in (np.ones(scores.size), scores, labels)
    ]
    return float(ece_of_sums(sums[0], sums[1], sums[2]))


def _at_threshold(labels: Ints, scores: Floats, threshold: float) -> tuple[float, float]:
    flagged = scores >= threshold
    hits = float(labels[flagged].sum())
    return float(ratio(np.float64(hits), np.float64(flagged.sum()))), float(ratio(np.float64(hits), labels.sum()))


def resampled_ece(scores: Floats, labels: Ints, sums: Summation) -> Floats:
    """(...,) the calibration error by these sums; the bins are those of the rows themselves."""
    groups = bins_of_equal_mass(scores, ECE_BINS)
    ones = np.ones(scores.size)
    return ece_of_sums(*(sums.by(groups, ECE_BINS, values) for values in (ones, scores, labels)))


def sigmoid(logits: Floats) -> Floats:
    """The logistic function, without overflow."""
    return np.where(logits >= 0, 1.0, np.exp(np.minimum(logits, 0))) / (1.0 + np.exp(-np.abs(logits)))


def calibration_covariates(label: Floats, score: Floats) -> dict[str, Floats]:
    """
    How wrong stable's calibration was: the derivatives of its log loss by a shift and a stretch of its logits.

    Args:
        label, score: (n,) each.
    """
    held = np.clip(score, CLIP, 1 - CLIP)
    residual = label - held
    return {"residual": residual, "residual_logit": residual * np.log(held / (1 - held))}
