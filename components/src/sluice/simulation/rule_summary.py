"""How one rule fares on a replay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sluice.simulation.summary import Proportion, wilson


@dataclass(frozen=True)
class RuleSummary:
    """How one rule fares under one truth."""

    rule: str
    truth: str
    promoted: Proportion
    rolled_back: Proportion
    out_of_time: Proportion
    wrong: Proportion
    """Rolled back where it is better than the margin; promoted where it is not."""
    days: float
    """Median to the end, running out of time with it."""
    requests: float
    """Median to the end."""
    miscoverage: Proportion | None
    """Rollouts whose interval excluded the truth at some look, up to the last; ``None`` of a rule without one."""
    exposed: float = 0.0
    """Median of the requests that users got the candidate's answer to: none in a shadow."""

    @classmethod
    def of(cls, rule: str, truth: str, ends: tuple[int, int, int], *, bad: bool, **figures: Any) -> RuleSummary:
        """
        Of rollouts that were promoted, were rolled back, ran out of time.

        Args:
            bad: whether a promotion is what is wrong; else a rollback is.
            figures: the other fields.
        """
        promoted, back, neither = (wilson(count, sum(ends)) for count in ends)
        return cls(
            rule=rule,
            truth=truth,
            promoted=promoted,
            rolled_back=back,
            out_of_time=neither,
            wrong=promoted if bad else back,
            **figures,
        )
