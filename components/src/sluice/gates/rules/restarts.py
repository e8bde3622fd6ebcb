"""How often do the candidate's servers begin anew?"""

from __future__ import annotations

from sluice.documents.evidence import Arm
from sluice.documents.verdict import Reason
from sluice.gates.rates import poisson_interval
from sluice.gates.reasons import MeasuredInterval, against_stable, interval_reason, no_evidence
from sluice.gates.roles import COMPARING
from sluice.gates.rule_kind import Question, RuleKind
from sluice.gates.sequential import Interval


def _judge(question: Question) -> tuple[Reason, ...]:
    comparing, alpha = question.rule.role in COMPARING, question.alpha
    arms = {"the candidate": question.evidence.candidate}
    if comparing:
        arms["stable"] = question.evidence.stable
    rates = [_rate(arm, alpha / len(arms)) for arm in arms.values()]
    missing = [name for name, rate in zip(arms, rates, strict=True) if rate is None]
    intervals = [rate for rate in rates if rate is not None]
    if missing:
        return (no_evidence(question, "restarts", f"nobody counted the restarts of {' and '.join(missing)}"),)
    n = sum(arm.answered for arm in arms.values() if arm)
    what = " against ".join(f"{arm.restarts} restarts in {arm.hours:g} server hours" for arm in arms.values() if arm)
    if comparing:
        measurement = against_stable(question, *intervals, n=n, what=what, alpha=alpha, unit=" an hour")
    else:
        measurement = MeasuredInterval(intervals[0], n, f"{what}; an hour", alpha)
    return (interval_reason(question, "restarts", measurement),)


def _rate(arm: Arm | None, alpha: float) -> Interval | None:
    if arm is None or arm.restarts is None or arm.hours is None:
        return None
    return poisson_interval(arm.restarts, arm.hours, alpha)


KIND = RuleKind(
    metric="restarts",
    about="Times that the candidate's servers began anew, per server hour: those within a minute are one event, and "
    "what both sides share is the node's.",
    unit="restarts an hour",
    judge=_judge,
    roles=("limit", "guardrail", "deterioration"),
    relative=("deterioration",),
    limits=(0.0, 3600.0),
    open_limits=True,
)
