"""
Other tools' rules on a user's own days: the same days as ours, with requests split as a canary would split them.

Days are those that a replay drew; after the last one a rule that still waits meets them again. Nothing fails and
nothing is slow, so a peer's rules of losses alone decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sluice.arrays import Floats, Ints
from sluice.gates.policy import GatePolicy
from sluice.simulation.pairs import LabelledPairs
from sluice.simulation.peers import PEERS, PeerRule, play_peer
from sluice.simulation.play import Outcome
from sluice.simulation.population import Population
from sluice.simulation.replay import TRUTHS, DayTable, Draws, ShadowTerms, true_differences
from sluice.simulation.rule_summary import RuleSummary
from sluice.simulation.traffic import BLOCK, Requests, SimulatedTraffic
from sluice.simulation.worlds import World, scale_of

_DAY_HOURS = 24
_WORLD = World("replay", "good", "days that happened")


@dataclass(kw_only=True)
class ReplayedTraffic(SimulatedTraffic):
    """The requests of one rollout, from days that happened; a peer meets them as it meets those of a world."""

    pairs: LabelledPairs
    people: Population
    """All pairs, in their order."""
    rows: Sequence[Ints]
    """Of each day."""
    days: Ints
    """Of the rollout."""
    worse: float
    """What is added to the candidate's losses."""

    def population(self, *, shadow: bool) -> Population:  # noqa: ARG002  days are what they were
        """All pairs."""
        return self.people

    def shift(self, window: Ints) -> Floats:
        """The same for each request."""
        return np.full(window.size, self.worse)

    def _block_requests(self, index: int) -> Requests:
        first, look = BLOCK * index * self.scale.look_hours, self.scale.look_hours
        end = first + BLOCK * look
        numbers = range(int(first // _DAY_HOURS), int(np.ceil(end / _DAY_HOURS)))
        parts = [self.rows[self.days[number % self.days.size]] for number in numbers]
        row = np.concatenate(parts)
        begin = np.repeat([_DAY_HOURS * number for number in numbers], [len(rows) for rows in parts])
        at, label_at = begin + self.pairs.event_hours[row], begin + self.pairs.label_hours[row]
        here = (at >= first) & (at < end)
        row, at, label_at = row[here], at[here], label_at[here]
        never, nothing = np.zeros(row.size, dtype=bool), np.empty(0)
        window = np.minimum((at // look).astype(np.int64), BLOCK * (index + 1) - 1)
        draw = self._random.random(row.size)
        return Requests(window, at, row, draw, never, never, never, label_at, nothing, nothing, never, never)


def peers_on_replay(
    pairs: LabelledPairs, table: DayTable, policy: GatePolicy, terms: ShadowTerms, draws: Draws, seed: int
) -> tuple[RuleSummary, ...]:
    """Each peer under each truth, in the order of ``TRUTHS``, on the days of these draws."""
    scale = scale_of(policy, pairs.day.size / pairs.days, terms.look_hours)
    scale = replace(scale, margin=terms.margin, asked=frozenset(), sliced=frozenset())
    order = np.argsort(pairs.day, kind="stable")
    rows = np.split(order, np.searchsorted(pairs.day[order], np.arange(1, pairs.days)))
    people, truth = population_of(pairs), true_differences(table, draws)

    def outcomes(peer: PeerRule, margins: float) -> list[Outcome]:
        ends = []
        for number, days in enumerate(draws.days):
            worse = margins * terms.margin - truth[number]
            traffic = ReplayedTraffic(
                _WORLD, scale, seed, number, pairs=pairs, people=people, rows=rows, days=days, worse=worse
            )
            ends.append(play_peer(traffic, policy, peer))
        return ends

    return tuple(
        _summary(peer.name, name, outcomes(peer, margins)) for name, margins in TRUTHS.items() for peer in PEERS
    )


def population_of(pairs: LabelledPairs) -> Population:
    """All pairs as what a world draws from; of scores, that no peer reads, one is as good as another."""
    none = np.full(pairs.day.size, 0.5)
    stable = pairs.stable
    return Population(none, pairs.day, none, none, stable, stable + pairs.difference, float(pairs.difference.mean()))


def _summary(rule: str, truth: str, outcomes: Sequence[Outcome]) -> RuleSummary:
    ends = [one.end for one in outcomes]
    return RuleSummary.of(
        rule,
        truth,
        (ends.count("promoted"), ends.count("rolled back"), ends.count("timed out")),
        bad=TRUTHS[truth] >= 1,
        days=float(np.median([one.hours for one in outcomes])) / _DAY_HOURS,
        requests=float(np.median([one.requests for one in outcomes])),
        miscoverage=None,
        exposed=float(np.median([one.exposed for one in outcomes])),
    )
