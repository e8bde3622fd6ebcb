"""Were the features there, and within their time to live?"""

from __future__ import annotations

from sluice.documents.verdict import Reason, Verdict
from sluice.gates.reasons import no_evidence, share_reason
from sluice.gates.rule_kind import Question, RuleKind


def _judge(question: Question) -> tuple[Reason, ...]:
    arm = question.evidence.candidate
    answers = arm.answered if arm else 0
    if arm is None or answers <= 0:
        return (no_evidence(question, "freshness", "the candidate answered no request"),)
    observed = min(1.0, arm.stale / answers)
    text = f"{arm.stale} of {answers} answers ({observed:.1%}) lacked a feature or had one past its time to live"
    limit = question.rule.limit or 0.0
    text += f"; at most {limit:.1%} may"
    # the store is to blame, not the model: wait until it is fresh again, or time out without a hold
    broken = Verdict.INCONCLUSIVE
    reason = share_reason(question, "freshness", observed, answers, text, minimum_n=question.minimum_n, broken=broken)
    return (reason,)


KIND = RuleKind(
    metric="freshness",
    about="Share of the candidate's answers that were made with a missing feature or one past its time to live. Above "
    "its limit the stage waits: that blames the feature store, not the model.",
    unit="share of answers",
    judge=_judge,
    roles=("quality",),
    interval=False,
)
