"""How often an interval may miss in a simulation before it is to blame."""

from __future__ import annotations

import math

ALPHA = 0.05


def allowed(runs: int, alpha: float = ALPHA) -> float:
    """The share of misses that a fair coin of rate alpha exceeds in one of a thousand simulations."""
    return alpha + 3.1 * math.sqrt(alpha * (1 - alpha) / runs)
