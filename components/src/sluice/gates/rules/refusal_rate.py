"""
How often does a server refuse what it is asked?

By minutes of event time, as failures are (``sluice.gates.minutes``): a client that sends a burst of nonsense is one
event. A minute in which both sides refuse is left in: clients who err are always there.
"""

from __future__ import annotations

from typing import NamedTuple

from sluice.documents.evidence import Arm
from sluice.documents.minutes import MinuteCounts, RefusalCounts
from sluice.documents.verdict import Reason
from sluice.gates.minutes import NOT_COUNTED, minutes_problem, refusals_effect, worth
from sluice.gates.rates import proportion_interval
from sluice.gates.reasons import MeasuredInterval, against_stable, interval_reason, no_evidence
from sluice.gates.roles import COMPARING
from sluice.gates.rule_kind import Question, RuleKind
from sluice.gates.sequential import Interval


def _judge(question: Question) -> tuple[Reason, ...]:
    candidate, stable = question.evidence.candidate, question.evidence.stable
    comparing, alpha = question.rule.role in COMPARING, question.alpha
    if candidate is None or not candidate.n or (comparing and (stable is None or not stable.n)):
        side = "stable" if candidate and candidate.n else "the candidate"
        return (no_evidence(question, "refusal_rate", f"no request reached {side}"),)
    ours = _refusals(question, "candidate", candidate)
    theirs = _refusals(question, "stable", stable) if comparing and stable else None
    if problem := minutes_problem(question.evidence) or _unknown(question, ours, theirs):
        return (no_evidence(question, "refusal_rate", problem),)
    what = f"{ours.refused} of {ours.n} requests were refused{worth(ours.effect)}"
    if theirs is None:
        measurement = MeasuredInterval(ours.interval(alpha), ours.n, what, alpha)
    else:
        what, n = f"{what}, {theirs.refused} of {theirs.n} by stable{worth(theirs.effect)}", ours.n + theirs.n
        sides = ours.interval(alpha / 2), theirs.interval(alpha / 2)
        measurement = against_stable(question, *sides, n=n, what=what, alpha=alpha)
    return (interval_reason(question, "refusal_rate", measurement),)


class _Refusals(NamedTuple):
    """Of one side."""

    n: int
    refused: int
    counts: RefusalCounts | None
    effect: float
    """Requests that tell as much as one."""

    def interval(self, alpha: float) -> Interval:
        return proportion_interval(self.refused / self.effect, self.n / self.effect, alpha)


def _refusals(question: Question, side: str, arm: Arm) -> _Refusals:
    minutes = question.evidence.minutes
    of_side: MinuteCounts | None = getattr(minutes, side) if minutes else None
    counts = of_side.refusals if of_side else None
    return _Refusals(arm.n, arm.refused, counts, refusals_effect(counts, arm.n, arm.refused, question.online))


def _unknown(question: Question, *sides: _Refusals | None) -> str | None:
    """What the evidence must have and has not."""
    is_known = all(side.counts or not side.refused for side in sides if side)
    return None if is_known or question.online.design_effect is not None else NOT_COUNTED


KIND = RuleKind(
    metric="refusal_rate",
    about="Share of the candidate's requests that it refused (4xx). Clients may be to blame for it, so hold it against "
    "stable: as deterioration it FAILs what surely refuses more. Counted by minute: a burst is one event.",
    unit="share of requests",
    judge=_judge,
    roles=("limit", "guardrail", "deterioration"),
    relative=("deterioration",),
    open_limits=True,
    widest=1.0,
)
