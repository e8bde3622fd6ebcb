"""
Bounds for a number of looks that is fixed beforehand, at equal steps of information.

Where one will look K times and no more, less width is needed than for every look there could be: with five looks about
a quarter less at the last one. The price is the plan: looks that come more often than planned void it, looks that are
left out do not.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_POINTS = 401
"""Of Simpson's rule; odd. Bounds agree with published ones to four digits."""
_NEVER = 9.0
"""A normal variable does not come so far: bounds beyond it count as infinite."""
_BISECTIONS = 45


def alpha_spending(share: float, alpha: float) -> float:
    """
    Two-sided error that may be spent by this share of the information, like O'Brien and Fleming: little at first.

    Lan & DeMets, "Discrete sequential boundaries for clinical trials", Biometrika 70 (1983): each side
    spends 2 − 2Φ(z / √t) of its α/2, with z = Φ⁻¹(1 − α/4).
    """
    return 2 * math.erfc(NormalDist().inv_cdf(1 - alpha / 4) / math.sqrt(2 * share))


@lru_cache(maxsize=256)
def boundaries(looks: int, alpha: float) -> tuple[float, ...]:
    """
    Standard errors beyond which the estimate must be, at each of ``looks`` looks, for an error of ``alpha`` in all.

    Armitage, McPherson & Rowe, "Repeated significance tests on accumulating data", JRSS A 132 (1969): the density of
    the sum of increments, of those not yet beyond a bound, is carried from look to look; each bound is where what
    crosses it is what ``alpha_spending`` adds.

    Returns:
        Shape (looks,), float; infinite where less may be spent than a double can tell.
    """
    import numpy as np

    bounds: list[float] = []
    grid, mass = np.zeros(1), np.ones(1)  # where the sum is, and how much of it times the width there
    for look in range(1, looks + 1):
        before = alpha_spending((look - 1) / looks, alpha) if look > 1 else 0.0
        bound = _bound(grid, mass, alpha_spending(look / looks, alpha) - before, look)
        bounds.append(bound / math.sqrt(look) if bound < _NEVER * math.sqrt(look) else math.inf)
        points = np.linspace(-bound, bound, _POINTS)
        weights = np.ones(_POINTS)
        weights[1:-1:2], weights[2:-1:2] = 4, 2
        density = np.exp(-0.5 * (points[:, None] - grid[None, :]) ** 2) @ mass / math.sqrt(2 * math.pi)
        grid, mass = points, density * weights * (points[1] - points[0]) / 3
    return tuple(bounds)


def _bound(grid: NDArray[np.float64], mass: NDArray[np.float64], increment: float, look: int) -> float:
    """The bound on the sum that ``increment`` of it crosses at this look."""
    low, high = 0.0, _NEVER * math.sqrt(look)
    where, weight = grid.tolist(), mass.tolist()
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        crossing = sum(
            w * 0.5 * (math.erfc((middle - s) / math.sqrt(2)) + math.erfc((middle + s) / math.sqrt(2)))
            for s, w in zip(where, weight, strict=True)
        )
        low, high = (middle, high) if crossing > increment else (low, middle)
    return high
