"""How many observations a rule will probably need."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

from sluice.gates.blocks import FIRST_LOOK, TUNED_AT, BlockHistory
from sluice.gates.sequential import critical_value

BETA = 0.2
"""Chance to miss an equal candidate where a policy names none."""
_HALVINGS = 40
_STEPS = 6
"""The critical value grows like the square root of a logarithm, so few steps lead there."""


def observations_needed(variance: float, margin: float, alpha: float, beta: float, tuned_at: float) -> int:
    """
    Observations from which a candidate as good as stable has shown, with chance 1 − ``beta``, that it keeps ``margin``.

    Where (c(n) + Φ⁻¹(1 − β)) · √(variance / n) = margin, c the critical value of a confidence sequence at n.

    Args:
        variance: of one observation.
        margin: above 0, in the unit of the observations.
        alpha: of the confidence sequence.
        tuned_at: its n*.
    """
    more, n = _quantile(1 - beta), tuned_at
    for _ in range(_STEPS):
        n = max(1.0, variance * ((critical_value(n, alpha, tuned_at) + more) / margin) ** 2)
    return math.ceil(n)


def blocks_needed(history: BlockHistory, margin: float, alpha: float, beta: float) -> int:
    """
    Blocks of as many requests as history's, from which a candidate as good as stable has shown, with chance
    1 − ``beta``, that it keeps ``margin``: by the adjusted interval or by the other, each at half of ``alpha``.

    Args:
        margin, alpha, beta: as of ``observations_needed``.
    """
    adjustment = history.adjustment
    if adjustment is None:
        return _blocks_until(history.variance, margin, alpha, beta)
    room = margin - _quantile(1 - alpha / 4) * math.sqrt(adjustment.mean_error)
    plain = _blocks_until(history.variance, margin, alpha / 2, beta)
    return min(plain, _blocks_until(adjustment.variance, room, alpha / 2, beta)) if room > 0 else plain


def reachable_margin(history: BlockHistory, blocks: int, alpha: float, beta: float) -> float:
    """The smallest margin that ``blocks_needed`` reaches within so many blocks, at least ``FIRST_LOOK``."""
    low, high = 0.0, 1.0
    while blocks_needed(history, high, alpha, beta) > blocks:
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        enough = blocks_needed(history, middle, alpha, beta) <= blocks
        low, high = (low, middle) if enough else (middle, high)
    return high


def _blocks_until(variance: float, margin: float, alpha: float, beta: float) -> int:
    return max(FIRST_LOOK, observations_needed(variance, margin, alpha, beta, TUNED_AT))


@lru_cache(maxsize=64)
def _quantile(share: float) -> float:
    return NormalDist().inv_cdf(share)
