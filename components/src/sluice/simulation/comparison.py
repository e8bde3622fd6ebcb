"""Ours and the peers' rules on the same requests: as they come, and tuned to make as few mistakes; pairing alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sluice.arrays import Floats
from sluice.gates.policy import GatePolicy
from sluice.gates.sequential import SampleMoments, difference, mean_interval
from sluice.simulation.counting import Sums
from sluice.simulation.peers import PEERS
from sluice.simulation.population import population
from sluice.simulation.run import OURS, Progress, Rival, Table, simulate
from sluice.simulation.summary import Spread, Summary
from sluice.simulation.worlds import TrafficScale, World, worlds_named

AS_THEY_COME: tuple[Rival, ...] = (Rival(OURS), *(Rival(peer.name) for peer in PEERS))
TUNINGS: tuple[Rival, ...] = (
    *(Rival(name, budget, slack) for name in ("argo", "flagger") for budget in (1, 2, 4, 8) for slack in (0.2, 0.4)),
    *(Rival("kayenta", budget) for budget in (1, 2, 4, 8)),
    *(Rival("fixed-n", budget) for budget in (1, 2, 3, 4)),
)
"""Parameters that are tried to bring a peer's mistakes down to ours."""


@dataclass(frozen=True)
class Matched:
    """
    The cheapest parameters with which a peer is as seldom wrong as ours, on the worlds ``equal`` and ``worse``.

    As seldom: its shares of wrong rollbacks of equal and of wrong promotions of worse are at most the upper ends of
    ours. ``rival`` is ``None`` where no tried parameters do it.
    """

    name: str
    rival: Rival | None
    equal: Summary | None
    worse: Summary | None


class Pairing(NamedTuple):
    """Requests until the log-loss interval of two equal models keeps the shadow's margin, over ``rollouts`` runs."""

    paired: Spread
    unpaired: Spread
    rollouts: int
    margin: float


def compare(
    policy: GatePolicy,
    worlds: Sequence[World],
    scale: TrafficScale,
    *,
    rollouts: int,
    seed: int,
    cores: int | None = None,
    progress: Progress | None = None,
) -> tuple[Table, tuple[Matched, ...]]:
    """All rules in ``worlds``, and each peer at its cheapest parameters; arguments as for ``simulate``."""
    sides = worlds_named(("equal", "worse"))
    first, whole = rollouts * len(worlds), rollouts * (len(worlds) + len(sides))

    def later(rollouts_done: int, _: int) -> None:
        if progress:
            progress(first + rollouts_done, whole)

    def now(rollouts_done: int, _: int) -> None:
        if progress:
            progress(rollouts_done, whole)

    table = simulate(
        policy, worlds, scale, rollouts=rollouts, seed=seed, rivals=AS_THEY_COME, cores=cores, progress=now
    )
    tunings = simulate(
        policy,
        sides,
        scale,
        rollouts=rollouts,
        seed=seed,
        rivals=(Rival(OURS), *TUNINGS),
        cores=cores,
        progress=later,
    )
    return table, tuple(_matched(peer.name, tunings) for peer in PEERS)


def _matched(name: str, tunings: Table) -> Matched:
    ours = tunings[Rival(OURS)]
    good = [
        (rival, summaries)
        for rival, summaries in tunings.items()
        if rival.name == name
        and all(theirs.wrong.share <= mine.wrong.high for theirs, mine in zip(summaries, ours, strict=True))
        and summaries[0].promoted.share >= ours[0].promoted.low
    ]
    if not good:
        return Matched(name, None, None, None)
    rival, (equal, worse) = min(good, key=lambda item: (item[1][0].requests.median, item[0].budget))
    return Matched(name, rival, equal, worse)


_LOOKS = np.unique(np.geomspace(60, 100_000, 375).astype(np.int64))


def pairing(policy: GatePolicy, scale: TrafficScale, *, rollouts: int, seed: int) -> Pairing:
    """
    What pairing is worth: the same sequences, alpha and margin, on requests that both answer or that are split.

    Paired, each request counts once, as in shadow. Unpaired, a fair coin sends it to one side. Looked at ever 2 % more
    requests; the policy's ``minimum_n`` only tunes the sequences, it holds nobody up.
    """
    people, random = population(0.0), np.random.default_rng([seed, 7])
    tuned_at, alpha = (policy.online.shadow or policy.online.confirm).minimum_n, policy.online.alpha
    needs: list[tuple[int, int]] = []
    for _ in range(rollouts):
        rows = random.integers(0, len(people.labels), _LOOKS[-1])
        candidate, stable = people.candidate_losses[rows], people.stable_losses[rows]
        heads = random.random(len(rows)) < 0.5
        differences = _running(candidate - stable)
        sides = (_running(np.where(heads, candidate, 0)), _running(np.where(heads, 0, stable)))
        tossed = np.cumsum(heads, dtype=np.int64)[_LOOKS - 1]
        needs.append(
            (
                _paired_need(differences, scale.margin, alpha, tuned_at),
                _split_need(sides, tossed, scale.margin, alpha, 2 * tuned_at),
            )
        )
    paired, unpaired = (np.quantile([need[side] for need in needs], [0.5, 0.9]) for side in (0, 1))
    return Pairing(
        Spread(float(paired[0]), float(paired[1])),
        Spread(float(unpaired[0]), float(unpaired[1])),
        rollouts,
        scale.margin,
    )


def _running(values: Floats) -> list[Sums]:
    totals, squares = np.cumsum(values)[_LOOKS - 1], np.cumsum(values * values)[_LOOKS - 1]
    return [Sums(int(n), float(t), float(q)) for n, t, q in zip(_LOOKS, totals, squares, strict=True)]


def _paired_need(sums: Sequence[Sums], margin: float, alpha: float, tuned_at: int) -> int:
    for one in sums:
        moments = one.moments()
        if moments and mean_interval(moments.mean, moments.variance, moments.n, alpha, tuned_at).high <= margin:
            return moments.n
    return int(sums[-1].n)


def _split_need(
    sides: tuple[Sequence[Sums], Sequence[Sums]],
    tossed: NDArray[np.int64],
    margin: float,
    alpha: float,
    tuned_at: int,
) -> int:
    for index, n in enumerate(_LOOKS):
        counts = int(tossed[index]), int(n - tossed[index])
        pair = tuple(_sample(side[index], count) for side, count in zip(sides, counts, strict=True))
        if difference([(pair[0], pair[1])], alpha, tuned_at).high <= margin:
            return int(n)
    return int(_LOOKS[-1])


def _sample(sums: Sums, n: int) -> SampleMoments:
    moments = sums._replace(n=n).moments()
    return SampleMoments(moments.n, moments.mean, moments.variance) if moments else SampleMoments(0, 0.0, 0.0)
