"""What the holdout says of the candidate's loss against production by block of event time, for the online gate."""

from __future__ import annotations

import numpy as np

from sluice.arrays import Floats, Ints
from sluice.documents.loss_history import LossHistory
from sluice.evaluation.metrics import calibration_covariates, log_losses
from sluice.gates.blocks import shortest_length, sums_by_length
from sluice.gates.loss_history import loss_history


def loss_histories(
    labels: Ints, hours: Floats, candidate: Floats, production: Floats, stable: str
) -> tuple[tuple[LossHistory, ...], float | None]:
    """
    A history for each length of ``LENGTHS_HOURS`` of which there are blocks enough, and the shortest that will do.

    Args:
        labels: (n,) 0 or 1.
        hours: (n,) hours since the holdout began.
        candidate, production: (n,) scores, finite.
        stable: production's digest.
    """
    difference = log_losses(labels, candidate) - log_losses(labels, production)
    covariates = calibration_covariates(labels.astype(np.float64), production)
    lengths = sums_by_length(hours, float(hours.max(initial=0.0)), difference, covariates)
    variance = float(difference.var(ddof=1)) if difference.size > 1 else 0.0
    histories = (loss_history(sums, length, variance, stable) for length, sums in lengths.items())
    return tuple(history for history in histories if history), shortest_length(lengths)
