"""How far apart are the two scores of one request?"""

from __future__ import annotations

from sluice.documents.verdict import Reason
from sluice.gates.reasons import MeasuredInterval, interval_reason, no_evidence
from sluice.gates.rule_kind import ARM_N, Question, RuleKind
from sluice.gates.sequential import MeanEstimate


def _judge(question: Question) -> tuple[Reason, ...]:
    shift, alpha = question.evidence.pairs.shift, question.alpha
    if shift is None or shift.n < ARM_N:
        return (no_evidence(question, "score_shift", "too few requests that both sides answered"),)
    critical = question.critical(shift.n, alpha, question.minimum_n)
    interval = MeanEstimate(shift.mean, shift.variance / shift.n, shift.n).within(critical)
    measurement = MeasuredInterval(interval, shift.n, "mean distance of the paired scores", alpha)
    return (interval_reason(question, "score_shift", measurement),)


KIND = RuleKind(
    metric="score_shift",
    about="Mean absolute difference of both sides' scores on the same request: how much users would notice.",
    unit="score",
    judge=_judge,
    roles=("limit",),
    needs="mirrors",
    open_limits=True,
    planned=True,
)
