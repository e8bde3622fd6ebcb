"""
Intervals by resampling days.

Rows of one day share their weather, their crowding and their neighbours, so they are not independent: whole days are
drawn with replacement, as many as there are (cluster bootstrap; Cameron, Gelbach, Miller 2008), and in runs where days
depend on each other (``day_runs``). A resample is a vector of day counts, so each metric needs only per-day sums: all
resamples of a histogram are one matrix product ``(R, D) @ (D, bins)``.

The value itself is exact, and the resampled deviations are laid around it: a kind of target may be coarser in resamples
(ranking metrics, by bins of scores). Percentile intervals of few clusters are too
narrow, so deviations are stretched by sqrt(K / (K - 1)) * t / z (Hesterberg 2015, "What teachers should know about
the bootstrap", section 3.2.1), K the independent days that the days are worth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from sluice.arrays import Floats, Ints
from sluice.documents.evaluation import Estimate
from sluice.evaluation.day_runs import days_in_runs, effective_runs, mean_run_days
from sluice.targets.kind import LabelCodes, Outcomes
from sluice.targets.metric import Metric
from sluice.targets.sums import DaySums
from sluice.targets.yardstick import Yardstick

RESAMPLES = 400
MINIMUM_DAYS = 5
"""With fewer days there is no interval, and a value without an interval is not reported."""
MINIMUM_RUNS = 3
"""The same of what the days are worth: those of a slice may be few and neighbours."""
_BINARY = Yardstick()
_Value = TypeVar("_Value", float, Floats)
_EstimateOf = Callable[[Metric, float, Floats, int, float], "Estimate | None"]
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
    """One model's answers on all rows: ``predictions`` (n, k') that are some, ``groups`` of its target's kind."""

    name: str
    predictions: Floats
    threshold: float | None
    groups: Ints | None

    @classmethod
    def of(cls, name: str, predictions: Floats, threshold: float | None, yardstick: Yardstick = _BINARY) -> ScoredModel:
        """Group the rows once for all slices; predictions (n,) are one column."""
        columns = predictions.reshape(len(predictions), -1)
        return cls(name, columns, threshold, yardstick.target.groups(columns))

    def outcomes(self, labels: LabelCodes, rows: Ints | None = None) -> Outcomes:
        """Of all rows, or of some (indices)."""
        if rows is None:
            return Outcomes(labels, self.predictions, self.threshold, self.groups)
        groups = None if self.groups is None else self.groups[rows]
        return Outcomes(labels[rows], self.predictions[rows], self.threshold, groups, whole=False)


@dataclass(frozen=True)
class Performance:
    """One model on some rows: exact values, and the same metrics in every resample, (R,) each."""

    n: int
    days: int
    runs: float
    """Independent days that ``days`` are worth."""
    values: dict[str, float]
    draws: dict[str, Floats]
    metrics: Mapping[str, Metric]

    def estimates(self) -> dict[str, Estimate]:
        """Values with intervals; a metric that has either not is left out."""
        return self._estimates(self.values, self.draws, _estimate_of_metric)

    def minus(self, peer: Performance) -> dict[str, Estimate]:
        """Differences to a peer on the same rows and the same resampled days; of the distances to a metric's best."""
        shared = [name for name in self.values if name in peer.values]
        values = {name: self._cost(name, self.values) - self._cost(name, peer.values) for name in shared}
        draws = {name: self._cost(name, self.draws) - self._cost(name, peer.draws) for name in shared}
        return self._estimates(values, draws, _estimate_of_difference)

    def _cost(self, name: str, values: Mapping[str, _Value]) -> _Value:
        best = self.metrics[name].best
        return values[name] if best is None else abs(values[name] - best)

    def _estimates(
        self, values: Mapping[str, float], draws: Mapping[str, Floats], estimate_of: _EstimateOf
    ) -> dict[str, Estimate]:
        if self.days < MINIMUM_DAYS or self.runs < MINIMUM_RUNS:
            return {}
        estimates = {
            name: estimate_of(self.metrics[name], value, draws[name], self.n, self.runs)
            for name, value in values.items()
        }
        return {name: estimate for name, estimate in estimates.items() if estimate is not None}


def measure(
    labels: LabelCodes,
    model: ScoredModel,
    resamples: DayResamples,
    rows: Ints | None = None,
    yardstick: Yardstick = _BINARY,
) -> Performance:
    """
    One model on all rows, or on ``rows`` (indices).

    Args:
        labels: (n, ...) as the target's kind has them, aligned with the model's predictions and the resamples' days.
    """
    outcomes = model.outcomes(labels, rows)
    days = resamples.codes if rows is None else resamples.codes[rows]
    metrics = {metric.name: metric for metric in yardstick.metrics.known if outcomes.whole or not metric.whole}
    values = {name: value for name, value in yardstick.exact(outcomes).items() if name in metrics}
    draws = yardstick.resampled(outcomes, DaySums(days, resamples.weights))
    present = np.unique(days)
    return Performance(len(days), present.size, effective_runs(present, resamples.mean_run), values, draws, metrics)


def _estimate_of_metric(metric: Metric, value: float, draws: Floats, n: int, runs: float) -> Estimate | None:
    ends = _ends(value, draws, runs)
    if ends is None:
        return None
    low, high, resampled = ends
    if metric.noisy:
        low = _without_noise(value, resampled, value - low)
    return _estimate(value, (low, high), metric.bounds, n)


def _estimate_of_difference(metric: Metric, value: float, draws: Floats, n: int, runs: float) -> Estimate | None:
    ends = _ends(value, draws, runs)
    return _estimate(value, ends[:2], (-metric.span, metric.span), n) if ends else None


def _ends(value: float, draws: Floats, runs: float) -> tuple[float, float, float] | None:
    """Both ends of the interval, and the mean of the resamples; ``None`` where too few of these are defined."""
    usable = draws[np.isfinite(draws)]
    if usable.size < (1 - _UNDEFINED_SHARE) * draws.size:
        return None
    # Around their own mean, which takes out the binning.
    low, high = value + _stretch(runs) * (np.quantile(usable, (0.025, 0.975)) - usable.mean())
    return float(low), float(high), float(usable.mean())


def _estimate(value: float, ends: tuple[float, float], bounds: tuple[float, float], n: int) -> Estimate:
    low, high = max(ends[0], bounds[0]), min(ends[1], bounds[1])
    return Estimate(value=_round(value), low=_round(min(low, value)), high=_round(max(high, value)), n=n)


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
