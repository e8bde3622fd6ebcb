"""
Confidence sequences of rates: shares of requests, events an hour; and of two intervals' difference and ratio.

Like all of ``sluice.gates.sequential`` they hold at every look at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from sluice.gates.sequential import Interval, log_beta

_BISECTIONS = 40
_EXPOSURE = 1.0
"""Prior exposure of a Poisson rate, in its unit of time; the prior is worth half an event in it."""


def proportion_interval(hits: float, n: float, alpha: float) -> Interval:
    """
    Confidence sequence of a Bernoulli rate: all p that the Beta(½, ½) mixture does not reject.

    Ville's inequality for the mixture martingale B(½+k, ½+n−k) / B(½, ½) / (pᵏ(1−p)ⁿ⁻ᵏ) < 1/α (Robbins 1970; the
    binomial case of Lindon & Malek, arXiv 2011.03567). Exact at every n, rare events included. Counts
    need not be whole: several requests may tell as much as one.
    """
    misses, rate = n - hits, hits / n
    threshold = beta_mixture(hits, n) + math.log(alpha)

    def is_rejected(p: float) -> bool:
        likelihood = (hits * math.log(p) if hits else 0.0) + (misses * math.log1p(-p) if misses else 0.0)
        return threshold > likelihood

    low = 0.0 if hits == 0 else _edge(is_rejected, 0.0, rate)
    high = 1.0 if misses == 0 else _edge(is_rejected, 1.0, rate)
    return Interval(rate, low, high)


def poisson_interval(events: int, exposure: float, alpha: float) -> Interval:
    """
    Confidence sequence of a Poisson rate: all λ that the Gamma(½, 1) mixture does not reject.

    With k events in exposure T the mixture martingale is Γ(½+k) b^½ / (Γ(½) (b+T)^(½+k)) / (λᵏ e^(−λT)), b the prior
    exposure (Robbins & Siegmund's Gamma mixture; Lindon & Malek, arXiv 2011.03567, count it by the event).

    Args:
        events: k.
        exposure: T > 0 in hours; may have grown by any rule that does not foresee events.
        alpha: two-sided error over all looks.
    """
    mixture = (
        0.5 * math.log(_EXPOSURE)
        - math.lgamma(0.5)
        + math.lgamma(0.5 + events)
        - (0.5 + events) * math.log(_EXPOSURE + exposure)
    )
    threshold, rate = mixture + math.log(alpha), events / exposure

    def is_rejected(value: float) -> bool:
        return threshold > (events * math.log(value) if events else 0.0) - value * exposure

    high = rate + 1 / exposure
    while not is_rejected(high):
        high *= 2
    return Interval(rate, 0.0 if events == 0 else _edge(is_rejected, 0.0, rate), _edge(is_rejected, high, rate))


def interval_difference(first: Interval, second: Interval) -> Interval:
    """First minus second: holds whenever both hold, so give each half of the error."""
    return Interval(first.estimate - second.estimate, first.low - second.high, first.high - second.low)


def interval_ratio(first: Interval, second: Interval) -> Interval:
    """First over second, both at least 0: holds whenever both hold; nothing over nothing is 1 and says nothing."""
    return Interval(
        _over(first.estimate, second.estimate, 1.0), _over(first.low, second.high, 0.0), _over(first.high, second.low)
    )


def beta_mixture(hits: float, n: float) -> float:
    """Log of the likelihood of ``hits`` of ``n`` in a given order, mixed over Beta(½, ½)."""
    return log_beta(0.5 + hits, 0.5 + n - hits) - log_beta(0.5, 0.5)


def _over(above: float, below: float, nothing: float = math.inf) -> float:
    return above / below if below > 0 else math.inf if above > 0 else nothing


def _edge(is_rejected: Callable[[float], bool], outside: float, inside: float) -> float:
    """Where ``is_rejected`` changes between ``outside`` (True) and ``inside`` (False); errs to the outside."""
    for _ in range(_BISECTIONS):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if is_rejected(middle) else (outside, middle)
    return outside
