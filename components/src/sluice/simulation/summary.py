"""Many outcomes of one world as figures, each share with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from sluice.simulation.play import Outcome
from sluice.simulation.worlds import World

_Z = 1.959963984540054


class Proportion(NamedTuple):
    """A share of rollouts with its 95 % interval."""

    share: float
    low: float
    high: float


def wilson(hits: int, n: int) -> Proportion:
    """Wilson's score interval (Wilson 1927) at 95 %; of nothing, all is possible."""
    if n == 0:
        return Proportion(math.nan, 0.0, 1.0)
    rate, z2 = hits / n, _Z * _Z
    middle, scale = rate + z2 / (2 * n), 1 + z2 / n
    half = _Z * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    low = 0.0 if hits == 0 else (middle - half) / scale
    return Proportion(rate, low, 1.0 if hits == n else (middle + half) / scale)


class Spread(NamedTuple):
    """Median and 90th percentile over rollouts."""

    median: float
    p90: float


@dataclass(frozen=True)
class Summary:
    """How a policy, or a peer's rule, fares in one world."""

    world: str
    truth: str
    rollouts: int
    promoted: Proportion
    rolled_back: Proportion
    timed_out: Proportion
    wrong: Proportion
    """Promoted where the candidate is bad or the road broken; rolled back by a FAIL where it is good."""
    held: Proportion
    """Left with a hold on the digest."""
    promoted_by_10000: Proportion
    """Promoted within 10,000 requests."""
    requests: Spread
    """Live requests to the verdict, whoever answered them."""
    hours: Spread
    exposed: Spread
    """Requests that users got the candidate's answer to."""
    ended_in: dict[str, int]

    def document(self) -> dict[str, Any]:
        """Plain JSON."""
        return {key: _plain(value) for key, value in asdict(self).items()}


def summary_of(world: World, outcomes: Sequence[Outcome]) -> Summary:
    """The figures of one world; ``outcomes`` in any order."""
    n = len(outcomes)
    counts = {end: sum(one.end == end for one in outcomes) for end in ("promoted", "rolled back", "timed out")}
    early = sum(one.end == "promoted" and one.requests <= 10_000 for one in outcomes)
    stages = sorted({one.stage for one in outcomes})
    return Summary(
        world=world.name,
        truth=world.truth,
        rollouts=n,
        promoted=wilson(counts["promoted"], n),
        rolled_back=wilson(counts["rolled back"], n),
        timed_out=wilson(counts["timed out"], n),
        wrong=wilson(counts["rolled back" if world.truth == "good" else "promoted"], n),
        held=wilson(sum(one.held for one in outcomes), n),
        promoted_by_10000=wilson(early, n),
        requests=_spread([one.requests for one in outcomes]),
        hours=_spread([one.hours for one in outcomes]),
        exposed=_spread([one.exposed for one in outcomes]),
        ended_in={stage: sum(one.stage == stage for one in outcomes) for stage in stages},
    )


def _spread(values: Sequence[float]) -> Spread:
    median, p90 = np.quantile(np.asarray(values, dtype=np.float64), [0.5, 0.9])
    return Spread(float(median), float(p90))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
