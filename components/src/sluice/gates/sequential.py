"""
Intervals that hold at every look at once.

A confidence sequence with error alpha covers the truth at all sample sizes together with probability 1 − alpha, so
one may look after every request and stop whenever one likes. The price is width: about 1.6 times that of a
fixed-n interval at the sample size it is tuned for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

_LOSSLESS = 0.995
"""Planned share where the plan says all: a mirror is fire-and-forget and may lose a few."""


class Interval(NamedTuple):
    """An estimate with the ends of its confidence sequence."""

    estimate: float
    low: float
    high: float


def critical_value(n: float, alpha: float, tuned_at: float) -> float:
    """
    Standard errors on either side of a mean, for an asymptotic confidence sequence.

    Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, "Time-uniform central limit theory and asymptotic confidence
    sequences", arXiv 2103.06476, eq. 9: half-width σ · sqrt( 2(nρ² + 1) / (n²ρ²) · ln( sqrt(nρ² + 1) / α ) ), with
    ρ² = (−2 ln α + ln(1 − 2 ln α)) / n* (eq. 161) narrowest near n = n*; here in units of σ / √n.

    Args:
        n: observations (for a difference of two arms: of both).
        alpha: two-sided error over all looks.
        tuned_at: n*; fixed before the first look.
    """
    rho2 = (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha))) / tuned_at
    grown = n * rho2 + 1
    return math.sqrt(2 * grown / (n * rho2) * math.log(math.sqrt(grown) / alpha))


class MeanEstimate(NamedTuple):
    """A value, the variance of that value (not of one observation), and the observations behind it."""

    value: float
    variance: float
    n: int

    def within(self, critical: float) -> Interval:
        """Out to ``critical`` standard errors on either side."""
        half = critical * math.sqrt(self.variance) if math.isfinite(critical) else math.inf
        return Interval(self.value, self.value - half, self.value + half)


def mean_interval(estimate: float, variance: float, n: int, alpha: float, tuned_at: float) -> Interval:
    """The confidence sequence of a mean of ``n`` observations that each have ``variance``; see ``critical_value``."""
    return MeanEstimate(estimate, variance / n, n).within(critical_value(n, alpha, tuned_at))


class SampleMoments(NamedTuple):
    """Counts and moments of one arm: n, mean, sample variance."""

    n: int
    mean: float
    variance: float


def stratified_difference(pairs: Sequence[tuple[SampleMoments, SampleMoments]]) -> MeanEstimate:
    """
    The mean of the first arm minus the second's, over strata in which both arms saw the same mix of requests.

    With weights w = n₁n₂/(n₁+n₂) it is Σ w(m₁−m₂)/Σ w, its variance Σ w²(v₁/n₁ + v₂/n₂)/(Σ w)² (GrowthBook's gbstats
    has the same for one stratum).
    """
    weights = [first.n * second.n / (first.n + second.n) for first, second in pairs]
    total = sum(weights)
    value = sum(w * (a.mean - b.mean) for w, (a, b) in zip(weights, pairs, strict=True)) / total
    variance = sum(w * w * (a.variance / a.n + b.variance / b.n) for w, (a, b) in zip(weights, pairs, strict=True))
    return MeanEstimate(value, variance / total**2, sum(a.n + b.n for a, b in pairs))


def difference(pairs: Sequence[tuple[SampleMoments, SampleMoments]], alpha: float, tuned_at: float) -> Interval:
    """The confidence sequence of ``stratified_difference``."""
    estimate = stratified_difference(pairs)
    return estimate.within(critical_value(estimate.n, alpha, tuned_at))


def ratio_of_means(first: SampleMoments, second: SampleMoments, critical: float) -> Interval:
    """
    The first arm's mean over the second's, which is above 0, out to ``critical`` standard errors.

    All ratios r for which the first mean minus r times the second is not told from 0; the ends solve
    (m₁ − r·m₂)² = z² (v₁/n₁ + r²·v₂/n₂) (Fieller 1954). At the true ratio that is one interval of one mean, so the
    ratio's covers whenever that does. Where the second mean cannot be told from 0 the ends are 0 and infinite.
    """
    if not math.isfinite(critical):
        return Interval(first.mean / second.mean if second.mean > 0 else math.inf, 0.0, math.inf)
    spread, below = critical**2 * first.variance / first.n, critical**2 * second.variance / second.n
    a, b, c = second.mean**2 - below, first.mean * second.mean, first.mean**2 - spread
    estimate = first.mean / second.mean if second.mean > 0 else math.inf
    if a <= 0 or second.mean <= 0:
        return Interval(estimate, 0.0, math.inf)
    root = math.sqrt(max(b * b - a * c, 0.0))
    return Interval(estimate, max(0.0, (b - root) / a), (b + root) / a)


def prediction_powered_mean(every: SampleMoments, rectifier: SampleMoments, labelled: SampleMoments) -> SampleMoments:
    """
    A mean whose labels are in for some only, helped by a prediction for all.

    Angelopoulos, Bates, Fannjiang, Jordan, Zrnic, "Prediction-powered inference", arXiv 2301.09633: the mean of the
    predictions of all, plus the mean of what they miss where labels are in. Those with labels are among all here, so
    the variance is v/N + r(1/n − 1/N), with v of the labelled observations and r of what predictions miss; it is v/n
    for predictions that say nothing. Unbiased where labels are in by chance; where they are in depending on the score,
    less biased than the labelled alone.

    Args:
        every: predictions of all N.
        rectifier: observation minus prediction, of the n labelled.
        labelled: the observations themselves, of the n labelled.

    Returns:
        n is that of the labelled; the variance is the one that n observations must have for a mean as certain.
    """
    both, n = max(every.n, rectifier.n), rectifier.n
    certain = labelled.variance / both + rectifier.variance * (1 / n - 1 / both)
    return SampleMoments(n, every.mean + rectifier.mean, n * certain)


def sample_ratio(first: int, second: int, planned: float, concentration: float = 100.0) -> float:
    """
    Log Bayes factor against "a share ``planned`` of all requests goes to the first"; alarm at ≥ ln(1/α).

    Lindon & Malek, "Anytime-valid inference for multinomial count data", arXiv 2011.03567: the Dirichlet-multinomial
    with prior ``concentration`` · planned split, against the planned split. Valid at every look.
    """
    a, b = concentration * planned, concentration * (1 - planned)
    mixture = log_beta(a + first, b + second) - log_beta(a, b)
    return mixture - first * math.log(planned) - second * math.log1p(-planned)


def is_broken(split: tuple[int, int], percent: int, alpha: float) -> bool:
    """Whether ``percent`` of the requests cannot have been sent to the second side, with an error of ``alpha``."""
    first, second = split
    planned = min(percent / 100, _LOSSLESS)
    if not first + second or not planned > 0 or (percent == 100 and second >= planned * (first + second)):
        return False
    return sample_ratio(second, first, planned) >= -math.log(alpha)


def log_beta(a: float, b: float) -> float:
    """Logarithm of the Beta function."""
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
