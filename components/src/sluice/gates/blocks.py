"""
Intervals that count blocks of event time instead of requests.

A storm makes a whole day late, so requests of a day are not independent, and an interval that counts them is too
narrow. Here a block (a day, say) is one observation, and it may depend on its neighbours.

    estimate   a ratio, Σ sums ÷ Σ counts; a block enters by its influence (sum − θ · count) ÷ mean count
    history    blocks before the first look fix everything: variance, slopes of the adjustment, means of the covariates
    adjusted   mean(d) − β (mean(c) − long-run mean(c)), c of stable and the label alone: regression adjustment as in
               CUPED (Deng, Xu, Kohavi, Walker 2013) with blocks as units
    shared     what the unadjusted and the adjusted interval, each at half of alpha, have in common; where they do not
               meet the world is no longer history's, and the unadjusted one stands alone

No interval is NaN at both ends, which every role reads as INCONCLUSIVE (``sluice.gates.roles``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sluice.arrays import Floats, Ints
from sluice.gates.sequential import critical_value

TUNED_AT = 6
"""Blocks at which the sequence is narrowest."""
FIRST_LOOK = 3
"""Blocks before there is an interval."""
MINIMUM_HISTORY = 15
"""Blocks of history before a variance from it means anything."""
SMALL_DEPENDENCE = 0.25
"""Share by which neighbours may widen a variance before a block counts as too short."""
LENGTHS_HOURS = (1, 2, 3, 4, 6, 8, 12, 24, 48, 72)
"""Lengths of a block that are tried."""
BLOCKS_A_COVARIATE = 7
"""Blocks of history for each slope; later covariates are left out."""
_FLAT = 1e-9
"""Standard deviation, over its size, below which a covariate does not vary."""


@dataclass(frozen=True, eq=False)
class BlockSums:
    """
    Sums by block, in the order of event time; leading axes are rollouts.

    Attributes:
        counts: (..., K) requests.
        judged: (..., K) sums of what is judged: the candidate's loss minus stable's.
        covariates: (..., K, C) sums of each covariate.
        names: C names of the covariates.
        sampling: (..., K) variance of ``judged`` that comes from arms which answered different requests; ``None`` where
            both answered the same.
    """

    counts: Floats
    judged: Floats
    covariates: Floats
    names: tuple[str, ...]
    sampling: Floats | None = None
    adjusted_sampling: Floats | None = None
    """(..., K) the same of ``judged`` less slopes · covariates; ``None`` where that is not known."""

    def at(self, blocks: Ints) -> BlockSums:
        """The blocks of these numbers, (..., K); of one rollout's sums."""
        return BlockSums(self.counts[blocks], self.judged[blocks], self.covariates[blocks], self.names)

    def shifted(self, difference: Floats) -> BlockSums:
        """The same with ``difference`` (..., 1) more in every request's judged value."""
        return BlockSums(self.counts, self.judged + difference * self.counts, self.covariates, self.names)


def block_sums(block: Ints, judged: Floats, covariates: Mapping[str, Floats], blocks: int) -> BlockSums:
    """
    Sum requests by block.

    Args:
        block: (n,) block of each request, 0 to ``blocks`` - 1.
        judged: (n,) candidate's loss minus stable's.
        covariates: (n,) values each.
    """
    sums = np.zeros((blocks, 2 + len(covariates)))
    for column, values in enumerate((np.ones(block.size), judged, *covariates.values())):
        sums[:, column] = np.bincount(block, values, minlength=blocks)
    return BlockSums(sums[:, 0], sums[:, 1], sums[:, 2:], tuple(covariates))


def sums_by_length(
    hours: Floats,
    end: float,
    judged: Floats,
    covariates: Mapping[str, Floats],
    tried: Sequence[float] = LENGTHS_HOURS,
) -> dict[float, BlockSums]:
    """
    The same requests in blocks of each of these lengths of which there are enough for a history.

    Args:
        hours: (n,) since the first block began.
        end: hours until the end; a part of a block is none.
        judged, covariates: as of ``block_sums``.
        tried: lengths in hours.
    """
    lengths: dict[float, BlockSums] = {}
    for length in tried:
        blocks = int(end // length)
        if blocks >= MINIMUM_HISTORY:
            whole = hours < blocks * length
            values = {name: column[whole] for name, column in covariates.items()}
            lengths[length] = block_sums((hours[whole] // length).astype(np.int64), judged[whole], values, blocks)
    return lengths


def bartlett_lags(values: Floats) -> int:
    """
    Lags of a long-run variance, from the data (K,): Newey & West, "Automatic lag selection in covariance matrix
    estimation" (1994), for Bartlett's kernel; at most a third of the values.
    """
    size = values.size
    reach = min(int(4 * (size / 100) ** (2 / 9)), size - 1)
    centred = values - values.mean()
    sigma = np.array([centred[lag:] @ centred[: size - lag] for lag in range(reach + 1)]) / size
    level = sigma[0] + 2 * sigma[1:].sum()
    slope = 2 * (np.arange(1, reach + 1) * sigma[1:]).sum()
    if level <= 0:
        return min(reach, size // 3)
    return int(min(1.1447 * np.cbrt((slope / level) ** 2 * size), size // 3))


def long_run_variance(values: Floats, lags: int) -> float:
    """
    Variance of a mean of dependent values (K,), times K: Bartlett's kernel over ``lags`` neighbours (Newey, West 1987).

    Never below the sample variance: neighbours that seem to cancel each other are no reason to be surer.
    """
    size = values.size
    centred = values - values.mean()
    variance = centred @ centred
    weighted = [(1 - lag / (lags + 1)) * (centred[lag:] @ centred[: size - lag]) for lag in range(1, lags + 1)]
    return float(max(variance, variance + 2 * sum(weighted)) / (size - 1))


def widening(values: Floats) -> float:
    """
    Factor on a variance from few, heavy-tailed values (K,): its relative standard error is about √((kurtosis + 3) / K).

    (1 + that)²: the standard deviation is taken for one standard error of the variance more.
    """
    centred = values - values.mean()
    square = float((centred**2).mean())
    kurtosis = float((centred**4).mean()) / square**2 if square > 0 else 3.0
    return (1 + float(np.sqrt((kurtosis + 3) / values.size))) ** 2


@dataclass(frozen=True, eq=False)
class Adjustment:
    """
    What history says of the covariates.

    Attributes:
        names: of the C covariates that vary in it and for which it has blocks enough.
        slopes: (C,) of the judged influences on theirs.
        means: (C,) long-run means.
        mean_error: variance of slopes · means: how well history knows them.
        variance: of an adjusted influence, long-run and widened.
    """

    names: tuple[str, ...]
    slopes: Floats
    means: Floats
    mean_error: float
    variance: float


@dataclass(frozen=True, eq=False)
class BlockHistory:
    """
    What blocks before the first look say; fixed from then on.

    Attributes:
        blocks: how many.
        mean_count: requests a block.
        variance: of an influence, long-run and widened, in squared units of what is judged.
        adjustment: ``None`` where no covariate varies.
        left_out: covariates that do not vary, or are too many for so few blocks.
    """

    blocks: int
    mean_count: float
    variance: float
    adjustment: Adjustment | None
    left_out: tuple[str, ...]


def history_of(sums: BlockSums) -> BlockHistory | None:
    """What (K,) blocks say; ``None`` where they are too few, have no request, or hold a number that is not finite."""
    size = sums.counts.size
    if size < MINIMUM_HISTORY or not _sound(sums):
        return None
    mean_count = float(sums.counts.mean())
    judged = _influences(sums.judged, sums.counts)
    fit = _fit(sums, judged)
    left_out = tuple(name for name in sums.names if name not in fit.names)
    variance = _widened_variance(judged)
    if not fit.names:
        return BlockHistory(size, mean_count, variance, None, left_out)
    explained = judged - fit.residual
    adjustment = Adjustment(
        names=fit.names,
        slopes=fit.slopes,
        means=fit.means,
        mean_error=long_run_variance(explained, bartlett_lags(explained)) / size,
        variance=_widened_variance(fit.residual) * (size - 1) / (size - 1 - len(fit.names)),
    )
    return BlockHistory(size, mean_count, variance, adjustment, left_out)


def dependence(sums: BlockSums) -> float:
    """
    Share by which neighbouring (K,) blocks widen the variance of the adjusted mean: 0 where they do not depend.

    NaN where there is no history in them.
    """
    if sums.counts.size < MINIMUM_HISTORY or not _sound(sums):
        return float("nan")
    residual = _fit(sums, _influences(sums.judged, sums.counts)).residual
    alone = long_run_variance(residual, 0)
    return long_run_variance(residual, bartlett_lags(residual)) / alone - 1 if alone > 0 else 0.0


def shortest_length(lengths: Mapping[float, BlockSums]) -> float | None:
    """
    The shortest block whose residual depends little on its neighbours' (``SMALL_DEPENDENCE``), with all longer ones.

    Args:
        lengths: the same history summed by blocks of each length in hours.

    Returns:
        ``None`` where even the longest depends: history is too short, or the world too slow.
    """
    shortest = None
    for hours in sorted(lengths, reverse=True):
        if not dependence(lengths[hours]) <= SMALL_DEPENDENCE:
            break
        shortest = hours
    return shortest


class Bounds(NamedTuple):
    """A confidence sequence over blocks: after each block the estimate and its ends, (..., K) each; NaN is none."""

    estimate: Floats
    low: Floats
    high: Floats


class BlockIntervals(NamedTuple):
    """What is known after each block, (..., K)."""

    shared: Bounds
    """To decide by."""
    unadjusted: Bounds
    adjusted: Bounds | None
    """``None`` where history and evidence have not the same covariates; the unadjusted one then has all of alpha."""
    apart: NDArray[np.bool_]
    """Where the two do not meet."""
    left_out: tuple[str, ...]
    """Covariates that were not adjusted for."""


Critical = Callable[[int, float], float]
"""Standard errors on either side of a mean of so many blocks, at an alpha."""


def sequence_critical(number: int, alpha: float) -> float:
    """Of a confidence sequence over blocks."""
    return critical_value(number, alpha, TUNED_AT)


def plain_intervals(
    history: BlockHistory, sums: BlockSums, margin: float, alpha: float, critical: Critical = sequence_critical
) -> Bounds:
    """
    The unadjusted sequence.

    Args:
        sums: (..., K) blocks since the first look, each over and with its labels due.
        margin: what the judged mean is held against; influences are taken about it.
        alpha: two-sided error over all looks.
        critical: by default of every look; of stages of fixed looks another one.
    """
    floor = _expected_variance(sums, history, history.variance, sums.sampling)
    return _sequence(sums.judged, sums.counts, floor, margin, _critical_values(sums, alpha, critical))


def block_intervals(
    history: BlockHistory, sums: BlockSums, margin: float, alpha: float, critical: Critical = sequence_critical
) -> BlockIntervals:
    """The interval to decide by, and what it is made of; arguments as of ``plain_intervals``."""
    adjustment = history.adjustment
    if adjustment is None or not _adjustable(sums, adjustment):
        plain = plain_intervals(history, sums, margin, alpha, critical)
        return BlockIntervals(plain, plain, None, np.zeros(plain.low.shape, dtype=bool), sums.names)
    plain = plain_intervals(history, sums, margin, alpha / 2, critical)
    adjusted = _adjusted_bounds(history, adjustment, sums, margin, alpha / 2, critical)
    shared, apart = _in_common(plain, adjusted)
    left_out = tuple(name for name in sums.names if name not in adjustment.names)
    return BlockIntervals(shared, plain, adjusted, apart, left_out)


def _adjustable(sums: BlockSums, adjustment: Adjustment) -> bool:
    known = sums.sampling is None or sums.adjusted_sampling is not None
    return known and set(adjustment.names) <= set(sums.names)


def _adjusted_bounds(
    history: BlockHistory, adjustment: Adjustment, sums: BlockSums, margin: float, alpha: float, critical: Critical
) -> Bounds:
    columns = [sums.names.index(name) for name in adjustment.names]
    surprise = sums.covariates[..., columns] - adjustment.means * sums.counts[..., None]
    judged = sums.judged - surprise @ adjustment.slopes
    # The error of history's means does not change from look to look, so it takes a fixed quantile.
    more = NormalDist().inv_cdf(1 - alpha / 2) * float(np.sqrt(adjustment.mean_error))
    floor = _expected_variance(sums, history, adjustment.variance, sums.adjusted_sampling)
    return _sequence(judged, sums.counts, floor, margin, _critical_values(sums, alpha, critical), more)


def _expected_variance(sums: BlockSums, history: BlockHistory, variance: float, sampling: Floats | None) -> Floats:
    """Of the sum of the judged after each block, (..., K), as history has it, and as arms that were split add to it."""
    if sampling is None:
        return np.arange(1, sums.counts.shape[-1] + 1) * variance * history.mean_count**2
    return np.asarray((variance * sums.counts**2 + sampling).cumsum(axis=-1))


def _critical_values(sums: BlockSums, alpha: float, critical: Critical) -> Floats:
    return np.array([critical(number, alpha) for number in range(1, sums.counts.shape[-1] + 1)])


def _sequence(
    judged: Floats, counts: Floats, floor: Floats, margin: float, critical: Floats, more: float = 0.0
) -> Bounds:
    """Its variance is never less than what the rollout's own blocks show."""
    number = np.arange(1, counts.shape[-1] + 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        whole = np.where(counts >= 0, counts, np.nan).cumsum(axis=-1)
        estimate = judged.cumsum(axis=-1) / whole
        about = judged - margin * counts
        squares = (about**2).cumsum(axis=-1) - about.cumsum(axis=-1) ** 2 / number
        own = number * squares / np.maximum(number - 1, 1)
        half = critical * np.sqrt(np.maximum(floor, own)) / whole + more
        valid = (number >= FIRST_LOOK) & (whole > 0) & np.isfinite(estimate) & np.isfinite(half)
    estimate, half = np.where(valid, estimate, np.nan), np.where(valid, half, np.nan)
    return Bounds(estimate, estimate - half, estimate + half)


def _in_common(plain: Bounds, adjusted: Bounds) -> tuple[Bounds, NDArray[np.bool_]]:
    low, high = np.maximum(plain.low, adjusted.low), np.minimum(plain.high, adjusted.high)
    apart = low > high
    low, high = np.where(apart, plain.low, low), np.where(apart, plain.high, high)
    estimate = np.clip(np.where(apart, plain.estimate, adjusted.estimate), low, high)
    return Bounds(estimate, low, high), apart


class _Fit(NamedTuple):
    names: tuple[str, ...]
    slopes: Floats
    means: Floats
    residual: Floats


def _fit(sums: BlockSums, judged: Floats) -> _Fit:
    """Least squares of the judged influences (K,) on those of the covariates that vary."""
    means = sums.covariates.sum(axis=0) / sums.counts.sum()
    influences = (sums.covariates - means * sums.counts[:, None]) / sums.counts.mean()
    spread = influences.std(axis=0)
    varies = np.flatnonzero(spread > _FLAT * (np.abs(sums.covariates).mean(axis=0) / sums.counts.mean()))
    varies = varies[: judged.size // BLOCKS_A_COVARIATE]
    kept, scale = influences[:, varies], spread[varies]
    slopes = np.linalg.lstsq(kept / scale, judged, rcond=1e-6)[0] / scale if varies.size else np.zeros(0)
    return _Fit(tuple(sums.names[index] for index in varies), slopes, means[varies], judged - kept @ slopes)


def _influences(values: Floats, counts: Floats) -> Floats:
    return np.asarray((values - values.sum() / counts.sum() * counts) / counts.mean())


def _widened_variance(influences: Floats) -> float:
    return long_run_variance(influences, bartlett_lags(influences)) * widening(influences)


def _sound(sums: BlockSums) -> bool:
    finite = all(np.isfinite(values).all() for values in (sums.counts, sums.judged, sums.covariates))
    return finite and bool((sums.counts >= 0).all()) and bool(sums.counts.sum() > 0)
