"""
The roles of a rule, and what each asks of an interval: the one place where either gate decides by numbers.

Roles are those of Schultzberg, Ankargren, Frånberg, "Risk-aware product decisions in A/B tests with multiple metrics"
(2024). The bound is ``limit``, or the margin on its side of an equal candidate. Touching the bound keeps it:

    role               PASS                                FAIL                             else
    success            all of it is better than the bound  none of it is better             INCONCLUSIVE
    guardrail, limit   none of it is worse than the bound  all of it is worse               INCONCLUSIVE
    deterioration      not FAIL                            all of it is worse               –
"""

from __future__ import annotations

import math
from typing import Literal

from sluice.documents.verdict import Verdict
from sluice.gates.sequential import Interval
from sluice.stages.section import OnlineRole

OfflineRole = Literal["success", "guardrail", "deterioration", "limit"]
COMPARING = ("success", "guardrail", "deterioration")
"""Roles that hold the candidate against a peer; the others hold it against a limit."""


def verdict_of(role: OnlineRole, interval: Interval, bound: float, *, higher: bool) -> Verdict:
    """
    The table above; ``higher`` says that higher is better.

    An end may be infinite: then it is open. A NaN, or ends the wrong way round, is no interval: INCONCLUSIVE.
    """
    low, high = (-interval.high, -interval.low) if higher else (interval.low, interval.high)
    limit = -bound if higher else bound  # lower is better from here on
    if not low <= high or math.isnan(interval.estimate) or math.isnan(limit):
        return Verdict.INCONCLUSIVE
    if role == "success":
        return Verdict.PASS if high < limit else Verdict.FAIL if low >= limit else Verdict.INCONCLUSIVE
    if role == "deterioration":
        return Verdict.FAIL if low > limit else Verdict.PASS
    return Verdict.PASS if high <= limit else Verdict.FAIL if low > limit else Verdict.INCONCLUSIVE


def margin_bound(role: OnlineRole, margin: float, *, higher: bool, equal: float = 0.0) -> float:
    """
    The bound of a role that compares: better than an equal candidate by ``margin`` for success, else worse by it.

    Args:
        margin: at least 0, in the unit of the interval.
        higher: whether higher is better.
        equal: the value of an equal candidate: 0 of a difference, 1 of a ratio.
    """
    return equal + margin if (role == "success") == higher else equal - margin
