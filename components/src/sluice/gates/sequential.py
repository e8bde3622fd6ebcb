"""
Intervals that hold at every look at once.

A confidence sequence with error alpha covers the truth at all sample sizes together with probability 1 − alpha, so
one may look after every request and stop whenever one likes. The price is width: about 1.6 times that of a
fixed-n interval at the sample size it is tuned for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

_BISECTIONS = 60


class Interval(NamedTuple):
    """An estimate with the ends of its confidence sequence."""

    estimate: float
    low: float
    high: float


def mean_interval(estimate: float, variance: float, n: float, alpha: float, tuned_at: float) -> Interval:
    """
    Asymptotic confidence sequence of a mean.

    Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, "Time-uniform central limit theory and asymptotic confidence
    sequences", arXiv 2103.06476: half-width σ · sqrt( 2(nρ² + 1) / (n²ρ²) · ln( sqrt(nρ² + 1) / α ) ), with
    ρ² = (−2 ln α + ln(1 − 2 ln α)) / n* narrowest near n = n*.

    Args:
        estimate: mean of ``n`` observations.
        variance: of one observation.
        n: observations (for a difference of two arms: of both; see ``difference``).
        alpha: two-sided error over all looks.
        tuned_at: n*; fixed before the first look.
    """
    rho2 = (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha))) / tuned_at
    grown = n * rho2 + 1
    half = math.sqrt(variance * 2 * grown / (n * n * rho2) * math.log(math.sqrt(grown) / alpha))
    return Interval(estimate, estimate - half, estimate + half)


class Sample(NamedTuple):
    """Counts and moments of one arm: n, mean, sample variance."""

    n: int
    mean: float
    variance: float


def difference(pairs: Sequence[tuple[Sample, Sample]], alpha: float, tuned_at: float) -> Interval:
    """
    Confidence sequence of the mean of the first arm minus the second's, stratified.

    Each pair is one stratum, in which both arms saw the same mix of requests; with weights w = n₁n₂/(n₁+n₂) the
    estimate is Σ w(m₁−m₂)/Σ w and its variance V = Σ w²(v₁/n₁ + v₂/n₂)/(Σ w)². With N observations in all, N·V is
    the variance per observation that ``mean_interval`` asks for (GrowthBook's gbstats does the same for one stratum).
    """
    weights = [first.n * second.n / (first.n + second.n) for first, second in pairs]
    total = sum(weights)
    estimate = sum(w * (a.mean - b.mean) for w, (a, b) in zip(weights, pairs, strict=True)) / total
    variance = sum(w * w * (a.variance / a.n + b.variance / b.n) for w, (a, b) in zip(weights, pairs, strict=True))
    n = sum(a.n + b.n for a, b in pairs)
    return mean_interval(estimate, n * variance / total**2, n, alpha, tuned_at)


def proportion_interval(hits: int, n: int, alpha: float) -> Interval:
    """
    Confidence sequence of a Bernoulli rate: all p that the Beta(½, ½) mixture does not reject.

    Ville's inequality for the mixture martingale B(½+k, ½+n−k) / B(½, ½) / (pᵏ(1−p)ⁿ⁻ᵏ) < 1/α (Robbins 1970; the
    binomial case of Lindon & Malek, arXiv 2011.03567). Exact at every n, rare events included.
    """

    def excess(p: float) -> float:
        return _log_mixture(hits, n) - _log_likelihood(hits, n, p) + math.log(alpha)

    rate = hits / n
    low = 0.0 if hits == 0 else _root(excess, 0.0, rate)
    high = 1.0 if hits == n else _root(excess, 1.0, rate)
    return Interval(rate, low, high)


def sample_ratio(first: int, second: int, planned: float, concentration: float = 100.0) -> float:
    """
    Log Bayes factor against "a share ``planned`` of all requests goes to the first"; alarm at ≥ ln(1/α).

    Lindon & Malek, "Anytime-valid inference for multinomial count data", arXiv 2011.03567: the Dirichlet-multinomial
    with prior ``concentration`` · planned split, against the planned split. Valid at every look.
    """
    a, b = concentration * planned, concentration * (1 - planned)
    mixture = _log_beta(a + first, b + second) - _log_beta(a, b)
    return mixture - first * math.log(planned) - second * math.log1p(-planned)


def _log_mixture(hits: int, n: int) -> float:
    return _log_beta(0.5 + hits, 0.5 + n - hits) - _log_beta(0.5, 0.5)


def _log_likelihood(hits: int, n: int, p: float) -> float:
    misses = n - hits
    impossible = (hits and p <= 0) or (misses and p >= 1)
    if impossible:
        return -math.inf
    return (hits * math.log(p) if hits else 0.0) + (misses * math.log1p(-p) if misses else 0.0)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _root(excess: Callable[[float], float], outside: float, inside: float) -> float:
    """Where ``excess`` changes from positive (``outside``) to not positive (``inside``); errs to the outside."""
    for _ in range(_BISECTIONS):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if excess(middle) > 0 else (outside, middle)
    return outside
