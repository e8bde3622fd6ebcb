"""How often do both sides decide the same?"""

from __future__ import annotations

from sluice.documents.verdict import Reason
from sluice.gates.rates import proportion_interval
from sluice.gates.reasons import MeasuredInterval, interval_reason, no_evidence
from sluice.gates.rule_kind import Question, RuleKind


def _judge(question: Question) -> tuple[Reason, ...]:
    same, alpha = question.evidence.pairs.agreement, question.alpha
    if same is None:
        return (no_evidence(question, "agreement", "no request was decided by both sides"),)
    what = f"{same.hits} of {same.n} requests were decided the same by both sides"
    measurement = MeasuredInterval(proportion_interval(same.hits, same.n, alpha), same.n, what, alpha)
    return (interval_reason(question, "agreement", measurement),)


KIND = RuleKind(
    metric="agreement",
    about="Share of requests that both sides decide the same, each at its own threshold.",
    unit="share of pairs",
    judge=_judge,
    roles=("limit",),
    needs="mirrors",
    direction="higher",
    open_limits=True,
)
