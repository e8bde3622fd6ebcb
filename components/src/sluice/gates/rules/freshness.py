"""Were the features there, and within their time to live?"""

from __future__ import annotations

from sluice.documents.verdict import Reason, Verdict
from sluice.gates.rules.answers import share, unknown
from sluice.gates.rules.kind import Kind, Question


def _judge(question: Question) -> tuple[Reason, ...]:
    arm = question.evidence.candidate
    answered = arm.n - arm.errors if arm else 0
    if arm is None or answered <= 0:
        return (unknown(question, "freshness", "the candidate answered no request"),)
    observed = min(1.0, arm.stale / answered)
    text = f"{arm.stale} of {answered} answers ({observed:.1%}) lacked a feature or had one past its time to live"
    limit = question.rule.limit or 0.0
    # the store is to blame, not the model: wait until it is fresh again, or time out without a hold
    text += f"; at most {limit:.1%} may"
    return (share(question, "freshness", observed, answered, text, otherwise=Verdict.INCONCLUSIVE),)


KIND = Kind(
    metric="freshness",
    about="Share of the candidate's answers that were made with a missing feature or one past its time to live. Above "
    "its limit the stage waits: that blames the feature store, not the model.",
    unit="share of answers",
    judge=_judge,
    roles=("quality",),
    interval=False,
)
