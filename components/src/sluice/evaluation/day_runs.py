"""
Days that depend on each other: drawn again in runs, as long as the data ask for.

A storm lasts longer than a day, so days drawn one by one know too little of bad weeks. Here a resample is made of runs
of days in a row, each of random length (stationary bootstrap; Politis, Romano 1994), around the end to the beginning.

    length   Politis & White, "Automatic block-length selection for the dependent bootstrap" (2004), as corrected by
             Patton, Politis, White (2009), b_SB: it makes the error of the resampled variance smallest
    runs     longer than that: a variance with the smallest error is still too small, which an interval cannot have,
             while noise in it is paid for by t (Sun, Phillips, Jin 2008; Lazarus, Lewis, Stock, Watson 2018)
    worth    2 · mean − 1 days in a row count as one: the sum of (1 − 1/mean)^distance over all days

Neighbours that seem to cancel each other are no reason to be surer: then days are drawn one by one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from sluice.arrays import Floats, Ints

_LEAST_RUNS = 4
"""What all days are worth at least: of fewer independent ones no interval can be made."""
_NEIGHBOURS = 4
"""Runs have this many times the neighbours that Politis & White's have."""
_SMALL_LAGS = 5
"""So many small autocorrelations in a row end the dependence: their K for every size that occurs."""


def mean_run_days(series: Iterable[Floats]) -> float:
    """
    Mean length of the runs that days are drawn in, for the series (D,) that depends the longest.

    1 where no day depends on the next, and where there is no series.
    """
    return max((_within(1 + _NEIGHBOURS * (best_length(values) - 1), values.size) for values in series), default=1.0)


def best_length(values: Floats) -> float:
    """Politis & White's mean length for (D,) values by day; 1 at least."""
    reach = min(math.ceil(math.sqrt(values.size)) + _SMALL_LAGS, values.size - 1)
    if reach < 1:
        return 1.0
    covariance = _autocovariances(values, reach)
    bound = 2 * math.sqrt(math.log10(values.size) / values.size)
    small = np.abs(covariance) < bound * covariance[0]
    last = next(lag for lag in range(reach + 1) if small[lag + 1 : lag + 1 + _SMALL_LAGS].all())
    lags = np.arange(1, min(2 * max(last, 1), reach) + 1)
    weighted = np.minimum(1, 2 * (1 - lags / lags.size)) * covariance[lags]
    long_run = covariance[0] + 2 * weighted.sum()
    if long_run <= covariance[0]:
        return 1.0
    return max(1.0, float(np.cbrt((2 * (lags * weighted).sum() / long_run) ** 2 * values.size)))


def days_in_runs(rng: np.random.Generator, days: int, mean_run: float, shape: tuple[int, int]) -> Ints:
    """Days (resamples, length) of 0 to ``days`` - 1: each after the one before or, once in a mean run, any."""
    begins = rng.random(shape) < 1 / mean_run
    begins[:, 0] = True
    anew, at = rng.integers(days, size=shape), np.arange(shape[1])
    since = np.maximum.accumulate(np.where(begins, at, 0), axis=1)
    return np.asarray((np.take_along_axis(anew, since, axis=1) + at - since) % days)


def effective_runs(days: Ints, mean_run: float) -> float:
    """How many independent days (d,) different days are worth: d where runs have one day."""
    if not days.size:
        return 0.0
    linked = (1 - 1 / mean_run) ** np.arange(int(np.ptp(days)) + 1)
    return float(days.size**2 / linked[np.abs(days[:, np.newaxis] - days)].sum())


def _within(length: float, days: int) -> float:
    """No longer than leaves ``_LEAST_RUNS``."""
    return max(1.0, min(length, (days / _LEAST_RUNS + 1) / 2))


def _autocovariances(values: Floats, reach: int) -> Floats:
    centred = values - values.mean()
    return np.array([centred[lag:] @ centred[: values.size - lag] for lag in range(reach + 1)]) / values.size
