"""The score from which an answer counts as positive."""

from __future__ import annotations

import numpy as np

from sluice.evaluation.metrics import Floats, Ints, counts_by_score


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
