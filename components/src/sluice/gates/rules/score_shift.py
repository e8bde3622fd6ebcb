"""How far apart are the two scores of one request?"""

from __future__ import annotations

from sluice.documents.verdict import Reason
from sluice.gates.rules.answers import Measured, held, unknown
from sluice.gates.rules.kind import ARM_N, Kind, Question
from sluice.gates.sequential import Estimate


def _judge(question: Question) -> tuple[Reason, ...]:
    shift, alpha = question.evidence.pairs.shift, question.alpha
    if shift is None or shift.n < ARM_N:
        return (unknown(question, "score_shift", "too few requests that both sides answered"),)
    critical = question.critical(shift.n, alpha, question.minimum_n)
    interval = Estimate(shift.mean, shift.variance / shift.n, shift.n).within(critical)
    return (held(question, "score_shift", Measured(interval, shift.n, "mean distance of the paired scores", alpha)),)


KIND = Kind(
    metric="score_shift",
    about="Mean absolute difference of both sides' scores on the same request: how much users would notice.",
    unit="score",
    judge=_judge,
    roles=("limit",),
    needs="mirrors",
    open_limits=True,
    planned=True,
)
