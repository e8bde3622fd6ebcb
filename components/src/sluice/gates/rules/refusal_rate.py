"""How often does a server refuse what it is asked?"""

from __future__ import annotations

from sluice.documents.evidence import Arm
from sluice.documents.verdict import Reason
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
    what = f"{candidate.refused} of {candidate.n} requests were refused"
    if not comparing or stable is None:
        measurement = MeasuredInterval(_interval(candidate, alpha), candidate.n, what, alpha)
    else:
        ours, theirs = (_interval(arm, alpha / 2) for arm in (candidate, stable))
        what, n = f"{what}, {stable.refused} of {stable.n} by stable", candidate.n + stable.n
        measurement = against_stable(question, ours, theirs, n=n, what=what, alpha=alpha)
    return (interval_reason(question, "refusal_rate", measurement),)


def _interval(arm: Arm, alpha: float) -> Interval:
    return proportion_interval(arm.refused, arm.n, alpha)


KIND = RuleKind(
    metric="refusal_rate",
    about="Share of the candidate's requests that it refused (4xx). Clients may be to blame for it, so hold it against "
    "stable: as deterioration it FAILs what surely refuses more.",
    unit="share of requests",
    judge=_judge,
    roles=("limit", "guardrail", "deterioration"),
    relative=("deterioration",),
    open_limits=True,
    widest=1.0,
)
