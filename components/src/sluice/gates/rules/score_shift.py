"""How far apart are the two scores of one request?"""

from __future__ import annotations

from sluice.documents.verdict import Reason
from sluice.gates.reasons import MeasuredInterval, reason_of
from sluice.gates.rule_kind import ARM_N, Question, RuleKind
from sluice.gates.score_blocks import requests_count, score_measurement
from sluice.gates.sequential import MeanEstimate

_WHAT = "mean distance of the paired scores"


def _judge(question: Question) -> tuple[Reason, ...]:
    measurement = _of_requests(question) if requests_count(question) else score_measurement(question, _WHAT)
    return (reason_of(question, "score_shift", measurement),)


def _of_requests(question: Question) -> MeasuredInterval | str:
    shift, alpha, effect = question.evidence.pairs.shift, question.alpha, question.online.design_effect or 1.0
    if shift is None or shift.n < ARM_N:
        return "too few requests that both sides answered"
    critical = question.critical(shift.n, alpha, question.minimum_n)
    interval = MeanEstimate(shift.mean, effect * shift.variance / shift.n, shift.n).within(critical)
    return MeasuredInterval(interval, shift.n, _WHAT, alpha)


KIND = RuleKind(
    metric="score_shift",
    about="Mean distance of both sides' predictions on the same request: how much users would notice.",
    unit="score",
    judge=_judge,
    roles=("limit",),
    needs="mirrors",
    open_limits=True,
    planned=True,
)
