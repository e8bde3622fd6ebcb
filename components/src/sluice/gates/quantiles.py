"""Confidence sequences of quantiles, from counts in bins."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

from sluice.gates.rates import beta_mixture
from sluice.gates.sequential import Interval


def quantile_interval(counts: Sequence[float], bounds: Sequence[float], q: float, alpha: float) -> Interval:
    """
    Confidence sequence of the ``q`` quantile of something that is at least 0.

    Howard & Ramdas, "Sequential estimation of quantiles with applications to A/B testing and best-arm identification",
    arXiv 1906.09712: the number of observations up to the true quantile is a Bernoulli(q) count, so the quantile lies
    between the order statistics whose ranks a sequence for q does not reject. Theirs is a sub-Bernoulli boundary, this
    is the exact Beta(½, ½) mixture. Of order statistics in bins only the bin is known: the ends are rounded outwards to
    bounds of bins, so the interval covers at least as often.

    Args:
        counts: observations in each bin, one more than ``bounds``; the last bin is open. They need not be whole.
        bounds: upper ends of the bins, rising, float.
        q: in (0, 1).
        alpha: two-sided error over all looks.

    Returns:
        ``estimate`` is the upper end of the bin that holds the quantile; an end in the open bin is infinite.
    """
    up_to = tuple(accumulate(counts))
    n = up_to[-1]
    middle = bisect_left(up_to, q * n)

    def is_rejected(index: int) -> bool:
        return _rejected(up_to[index], n, q, alpha)

    # the mixture over the likelihood is convex in the count: it rejects beyond one rank on either side
    below = bisect_left(range(middle), True, key=lambda index: not is_rejected(index)) - 1
    above = bisect_left(range(middle, len(up_to)), True, key=is_rejected) + middle
    ends = (*bounds, math.inf)
    return Interval(ends[middle], ends[below] if below >= 0 else 0.0, ends[above] if above < len(ends) else math.inf)


def _rejected(count: float, n: float, q: float, alpha: float) -> bool:
    """Whether ``count`` of ``n`` is no Bernoulli(q) count."""
    likelihood = count * math.log(q) + (n - count) * math.log1p(-q)
    return beta_mixture(count, n) - likelihood >= -math.log(alpha)
