"""
How much the requests of one minute share their fate, and so how little each of them tells.

An outage fails all requests of its minutes and a slow minute slows all of them, so failures and milliseconds are judged
with the minute as the unit: with x the sum of a minute's n requests and μ the mean of all,

    effect = Σ (x − μ n)² ÷ what independent requests would have        (Kish 1965), at least 1

of them tell as much as one that is independent. Two hundred failures of one minute tell as much as one event then, and
two hundred that are spread over the day as much as two hundred.
"""

from __future__ import annotations

from typing import NamedTuple

from sluice.documents.evidence import Arm, Evidence, Moments
from sluice.documents.minutes import MinuteCounts, Minutes, MinuteSums, RefusalCounts
from sluice.gates.online_policy import Online
from sluice.gates.rule_kind import Question

_WORDS = 1.05
NOT_COUNTED = "the evidence counts requests, not minutes: let what collects it be as new as the gate, or state a "
NOT_COUNTED += "design_effect"


def minutes_problem(evidence: Evidence) -> str | None:
    """How minutes and totals disagree."""
    minutes = evidence.minutes
    if minutes is None:
        return None
    arms = ((evidence.candidate, minutes.candidate), (evidence.stable, minutes.stable))
    for arm, counts in arms:
        if arm and counts and not _add_up(arm, counts):
            told = f"{counts.requests + counts.path_requests} requests, {counts.errors + counts.path_errors} of them"
            return f"the minutes have {told} failed; the totals are {arm.asked} and {arm.errors}"
        if arm and counts and (refusals := counts.refusals) and not _refusals_add_up(arm, refusals):
            told = f"{refusals.requests} requests, {refusals.refused} of them refused"
            return f"the minutes have {told}; the totals are {arm.n} and {arm.refused}"
    return None


def _add_up(arm: Arm, counts: MinuteCounts) -> bool:
    return counts.requests + counts.path_requests <= arm.asked and counts.errors + counts.path_errors <= arm.errors


def _refusals_add_up(arm: Arm, counts: RefusalCounts) -> bool:
    return counts.requests <= arm.n and counts.refused <= arm.refused


class _Hits(NamedTuple):
    """Of what is counted in minutes: requests, and those of them that failed, or that were refused."""

    minutes: int
    requests: int
    hits: int
    sums: MinuteSums


def failures_effect(counts: MinuteCounts | None, n: int, errors: int, online: Online) -> float:
    """
    Requests that tell as much about failures as one that is independent of all others; at most what is stated.

    Args:
        n, errors: without those of the path; what of them is in no minute, such as the last seconds, is one of its own.
    """
    if counts is None:
        return online.design_effect or 1.0
    return _hits_effect(_Hits(counts.minutes, counts.requests, counts.errors, counts.sums), n, errors, online)


def refusals_effect(counts: RefusalCounts | None, n: int, refused: int, online: Online) -> float:
    """The same of refusals."""
    if counts is None:
        return (online.design_effect or 1.0) if refused else 1.0
    return _hits_effect(_Hits(counts.minutes, counts.requests, counts.refused, counts.sums), n, refused, online)


def _hits_effect(counts: _Hits, n: int, hits: int, online: Online) -> float:
    rest, wrong = n - counts.requests, hits - counts.hits
    sums = MinuteSums(
        counts=counts.sums.counts + rest**2,
        values=counts.sums.values + wrong**2,
        products=counts.sums.products + rest * wrong,
    )
    share = hits / n if n else 0.0
    if share == 1:
        return _at_most(online, _whole_minutes(sums, n))
    return _at_most(online, _effect(sums, counts.minutes + (rest > 0), n, share, share * (1 - share)))


def _at_most(online: Online, effect: float) -> float:
    return effect if online.design_effect is None else min(effect, online.design_effect)


def latency_effect(question: Question, side: str) -> float | None:
    """Of one of ``SIDES``; ``None`` where nobody counted minutes and the policy states no design effect."""
    timings, minutes = question.evidence.timings, question.evidence.minutes
    sums: MinuteSums | None = getattr(timings, f"{side}_minutes")
    moments: Moments | None = getattr(timings, side)
    counts: MinuteCounts | None = getattr(minutes, side) if minutes else None
    if sums is None or moments is None or counts is None or minutes is None:
        return question.online.design_effect
    effect = _effect(sums, counts.minutes + minutes.both_failing, moments.n, moments.mean, moments.variance)
    return _at_most(question.online, effect)


def _effect(sums: MinuteSums, minutes: int, n: int, mean: float, variance: float) -> float:
    if minutes < 2:
        return _whole_minutes(sums, n)
    spread = sums.values - 2 * mean * sums.products + mean**2 * sums.counts
    alone = n * variance
    return max(1.0, spread / alone * minutes / (minutes - 1)) if alone > 0 else 1.0


def _whole_minutes(sums: MinuteSums, n: int) -> float:
    """As if all requests of a minute had one fate."""
    return max(1.0, sums.counts / n) if n else 1.0


def path_remark(minutes: Minutes) -> str:
    """What is left out of a comparison because both sides failed together."""
    both = minutes.both_failing
    return f"; {both} minutes in which both sides failed blame the path and are left out" if both else ""


def worth(effect: float) -> str:
    """How little a request tells, where that is worth a word."""
    return f" ({effect:.3g} of a minute telling as much as one)" if effect >= _WORDS else ""
