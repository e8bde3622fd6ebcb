"""What kinds whose labels are numbers have in common: sums of errors, bins to draw."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sluice.arrays import Floats, Ints
from sluice.documents.evaluation import ValueBin, ValueBins
from sluice.targets.metric import Metric
from sluice.targets.probabilities import bins_of_equal_mass
from sluice.targets.sums import Summation, ratio

_BINS = 10
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_Z = 1.959964
_DIGITS = 7
ERROR_METRICS = (
    Metric(name="mae", title="mean absolute error"),
    Metric(name="bias", title="bias", low=None, best=0.0),
)


def mean_errors(labels: Floats, values: Floats, sums: Summation) -> dict[str, Floats]:
    """``mae`` and ``bias`` (prediction minus label) by these sums; labels and values (n,)."""
    n, error = sums.total(np.ones(labels.size)), values - labels
    return {"mae": ratio(sums.total(np.abs(error)), n), "bias": ratio(sums.total(error), n)}


def value_bins(labels: Floats, values: Floats) -> ValueBins:
    """Rows (n,) by tenths of their predictions, of which equal ones are in one bin."""
    return ValueBins(bins=tuple(_bins(labels, values)))


def _bins(labels: Floats, values: Floats) -> Iterator[ValueBin]:
    groups: Ints = bins_of_equal_mass(values, _BINS)
    for group in np.unique(groups):
        label, value = labels[groups == group], values[groups == group]
        mean = float(label.mean())
        half = _Z * float(label.std(ddof=1)) / np.sqrt(label.size) if label.size > 1 else 0.0
        residuals = np.quantile(label - value, _QUANTILES)
        ends = (float(value.mean()), mean, mean - half, mean + half)
        mean_prediction, mean_label, low, high = map(_short, ends)
        q05, q25, q50, q75, q95 = map(_short, residuals.tolist())
        yield ValueBin(
            mean_prediction=mean_prediction,
            mean_label=mean_label,
            low=low,
            high=high,
            residuals=(q05, q25, q50, q75, q95),
            n=label.size,
        )


def _short(value: float) -> float:
    """Documents are content-addressed: digits below these may depend on the machine's arithmetic."""
    return float(f"{value:.{_DIGITS}g}") + 0.0
