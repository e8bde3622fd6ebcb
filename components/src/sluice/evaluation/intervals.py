"""
Intervals by resampling days.

Rows of one day share their weather, their crowding and their neighbours, so they are not independent: whole days are
drawn with replacement, as many as there are (cluster bootstrap; Cameron, Gelbach, Miller 2008), and in runs where days
depend on each other (``day_runs``). A resample is a vector of day counts, so each metric needs only per-day sums: all
resamples of a histogram are one matrix product ``(R, D) @ (D, bins)``.

Scores are binned for the resamples alone; the value itself is exact, and the resampled deviations are laid around it.
Ranking metrics lose nothing that matters by 200 bins of equal mass. Percentile intervals of few clusters are too
narrow, so deviations are stretched by sqrt(K / (K - 1)) * t / z (Hesterberg 2015, "What teachers should know about
the bootstrap", section 3.2.1), K the independent days that the days are worth.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sluice.arrays import Floats, Ints
from sluice.documents.evaluation import Estimate
from sluice.evaluation.day_runs import days_in_runs, effective_runs, mean_run_days
from sluice.evaluation.metrics import (
    ECE_BINS,
    METRICS,
    auc_of_counts,
    average_precision_of_counts,
    bins_of_equal_mass,
    ece_of_sums,
    exact_metrics,
    log_losses,
)

RESAMPLES = 400
SCORE_BINS = 200
MINIMUM_DAYS = 5
"""With fewer days there is no interval, and a value without an interval is not reported."""
MINIMUM_RUNS = 3
"""The same of what the days are worth: those of a slice may be few and neighbours."""
_UNDEFINED_SHARE = 0.05
"""A metric that is undefined in more than this share of the resamples has too few rows of one class."""
_Z = 1.959964
_DECIMALS = 6
"""Documents are content-addressed: digits below this may depend on the machine's arithmetic."""


@dataclass(frozen=True)
class DayResamples:
    """
    The rows' days and the resamples of them; one object serves every model and slice, so differences are paired.

    Attributes:
        codes: (n,) day of each row, 0 to ``days`` - 1.
        days: how many days there are.
        weights: (R, days) how often each day was drawn.
        mean_run: mean length in days of the runs that they were drawn in.
    """

    codes: Ints
    days: int
    weights: Floats
    mean_run: float

    @classmethod
    def draw(cls, codes: Ints, series: Iterable[Floats], seed: int, resamples: int = RESAMPLES) -> DayResamples:
        """
        Draw ``resamples`` times as many days as ``codes`` has.

        Args:
            series: (n,) values each, of which the one whose days depend the longest says how long runs are.
        """
        days = int(codes.max()) + 1
        mean_run = mean_run_days(_influences(codes, values) for values in series)
        places = days_in_runs(np.random.default_rng(seed), days, mean_run, (resamples, days))
        cells = np.bincount((places + days * np.arange(resamples)[:, np.newaxis]).ravel(), minlength=resamples * days)
        return cls(codes, days, cells.reshape(resamples, days).astype(np.float64), mean_run)

    def summary(self) -> dict[str, int | float]:
        """How they were drawn."""
        return {"resamples": len(self.weights), "days": self.days, "mean_run_days": _round(self.mean_run)}


@dataclass(frozen=True)
class ScoredModel:
    """One model's answers on all rows: ``scores`` (n,) finite probabilities, ``bins`` (n,) their groups by rank."""

    name: str
    scores: Floats
    threshold: float
    bins: Ints

    @classmethod
    def of(cls, name: str, scores: Floats, threshold: float) -> ScoredModel:
        """Bin the scores once for all slices."""
        return cls(name, scores, threshold, bins_of_equal_mass(scores, SCORE_BINS))


@dataclass(frozen=True)
class Performance:
    """One model on some rows: exact values, and the same metrics in every resample, (R,) each."""

    n: int
    days: int
    runs: float
    """Independent days that ``days`` are worth."""
    values: dict[str, float]
    draws: dict[str, Floats]

    def estimates(self) -> dict[str, Estimate]:
        """Values with intervals; a metric that has either not is left out."""
        return self._estimates(self.values, self.draws, lowest=0.0)

    def minus(self, peer: Performance) -> dict[str, Estimate]:
        """Differences to a peer on the same rows and the same resampled days."""
        shared = [name for name in METRICS if name in self.values and name in peer.values]
        values = {name: self.values[name] - peer.values[name] for name in shared}
        draws = {name: self.draws[name] - peer.draws[name] for name in shared}
        return self._estimates(values, draws, lowest=-np.inf)

    def _estimates(
        self, values: Mapping[str, float], draws: Mapping[str, Floats], lowest: float
    ) -> dict[str, Estimate]:
        if self.days < MINIMUM_DAYS or self.runs < MINIMUM_RUNS:
            return {}
        estimates = {
            name: _estimate(name, value, draws[name], n=self.n, runs=self.runs, lowest=lowest)
            for name, value in values.items()
        }
        return {name: estimate for name, estimate in estimates.items() if estimate is not None}


def measure(labels: Ints, model: ScoredModel, resamples: DayResamples, rows: Ints | None = None) -> Performance:
    """
    One model on all rows, or on ``rows`` (indices).

    Args:
        labels: (n,) 0 or 1, aligned with the model's scores and the resamples' days.
    """
    selection = slice(None) if rows is None else rows
    truth, scores, days = labels[selection], model.scores[selection], resamples.codes[selection]
    by_day = _DaySums(days, resamples)
    hits, misses = by_day.counts(model.bins[selection], truth)
    draws = {
        "auc": auc_of_counts(hits, misses),
        "pr_auc": average_precision_of_counts(hits, misses),
        "log_loss": _mean(by_day, log_losses(truth, scores)),
        "ece": _ece(by_day, truth, scores),
        **_at_threshold(by_day, truth, scores >= model.threshold),
    }
    present = np.unique(days)
    runs = effective_runs(present, resamples.mean_run)
    return Performance(truth.size, present.size, runs, exact_metrics(truth, scores, model.threshold), draws)


class _DaySums:
    """Sums by day and group, and the same sums in every resample."""

    def __init__(self, days: Ints, resamples: DayResamples) -> None:
        self._days, self._number, self._weights = days, resamples.days, resamples.weights
        self._narrow = resamples.weights.astype(np.float32)

    def resample(self, groups: Ints, size: int, values: Ints | Floats) -> Floats:
        """(R, size): the values summed by group, each day taken as often as it was drawn."""
        cells = np.bincount(self._days * size + groups, weights=values, minlength=self._number * size)
        return _product(self._weights, cells.reshape(self._number, size))

    def counts(self, bins: Ints, truth: Ints) -> tuple[Floats, Floats]:
        """(R, SCORE_BINS) positives and negatives by bin. Counts below 2**24 are exact in float32, at half the cost."""
        width = 2 * SCORE_BINS
        cells = np.bincount(self._days * width + truth * SCORE_BINS + bins, minlength=self._number * width)
        table = cells.reshape(self._number, width).astype(np.float32)
        counts = _product(self._narrow, table).astype(np.float64)
        return counts[:, SCORE_BINS:], counts[:, :SCORE_BINS]

    def total(self, values: Ints | Floats) -> Floats:
        """(R,): the values summed."""
        sums = np.bincount(self._days, weights=values, minlength=self._number)
        return _product(self._weights, sums[:, np.newaxis])[:, 0]


def _product(left: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    """
    (R, D) times (D, b) in one thread.

    These products are small: BLAS threads that wait for a busy core cost ten times what they save, and their number
    would decide the last bits.
    """
    product: NDArray[Any] = np.einsum("rd,db->rb", left, right)
    return product


def _mean(by_day: _DaySums, values: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return by_day.total(values) / by_day.total(np.ones(values.size))


def _ece(by_day: _DaySums, truth: Ints, scores: Floats) -> Floats:
    groups = bins_of_equal_mass(scores, ECE_BINS)
    ones = np.ones(scores.size)
    return ece_of_sums(*(by_day.resample(groups, ECE_BINS, values) for values in (ones, scores, truth)))


def _at_threshold(by_day: _DaySums, truth: Ints, flagged: np.ndarray) -> dict[str, Floats]:
    hits = by_day.total(truth * flagged)
    with np.errstate(divide="ignore", invalid="ignore"):
        return {"precision": hits / by_day.total(flagged.astype(np.float64)), "recall": hits / by_day.total(truth)}


def _estimate(name: str, value: float, draws: Floats, *, n: int, runs: float, lowest: float) -> Estimate | None:
    usable = draws[np.isfinite(draws)]
    if usable.size < (1 - _UNDEFINED_SHARE) * draws.size:
        return None
    # Around their own mean, which takes out the binning.
    low, high = value + _stretch(runs) * (np.quantile(usable, (0.025, 0.975)) - usable.mean())
    if name == "ece" and lowest == 0:
        low = _without_noise(value, float(usable.mean()), value - low)
    if name != "log_loss":
        high, low = min(high, 1.0), max(low, -1.0)
    low = max(low, lowest)
    low, high = min(low, value), max(high, value)
    return Estimate(value=_round(value), low=_round(low), high=_round(high), n=n)


def _without_noise(value: float, resampled: float, below: float) -> float:
    """
    The lower end for a mean of absolute values (ECE): sampling noise raises it, so the truth lies further down.

    In squares, value = truth + noise, and resampling adds the same noise once more: resampled = value + noise.
    ``below`` is the distance to the uncorrected end; it grows as the slope of truth over value does. 0 where noise is
    most of the value. The upper end stays as it is and errs to the safe side.
    """
    noise = max(resampled**2 - value**2, 0.0)
    if noise >= value**2 / 2:
        return 0.0
    truth = float(np.sqrt(value**2 - noise))
    return truth - below * value / truth


def _round(value: float) -> float:
    return round(float(value), _DECIMALS) + 0.0


def _stretch(runs: float) -> float:
    """What makes a percentile interval of ``runs`` clusters as wide as a t interval (Cornish-Fisher for t)."""
    free, z = runs - 1, _Z
    t = z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
    t += (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * free**3)
    return float(np.sqrt(runs / free) * t / z)


def _influences(codes: Ints, values: Floats) -> Floats:
    """(D,) by how much each day moves the mean of ``values`` (n,); days without rows by nothing."""
    sums, counts = np.bincount(codes, weights=values), np.bincount(codes)
    return np.asarray((sums - values.mean() * counts) / counts.mean())
