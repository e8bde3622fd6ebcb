"""Are the labels of mature requests in?"""

from __future__ import annotations

from sluice.documents.verdict import Reason, Verdict
from sluice.gates.reasons import no_evidence, share_reason
from sluice.gates.rule_kind import Question, RuleKind


def _judge(question: Question) -> tuple[Reason, ...]:
    arm, stable, minimum_n = question.evidence.candidate, question.evidence.stable, question.minimum_n
    if arm is None or arm.due < minimum_n:
        text = f"{arm.due if arm else 0} requests are old enough for labels, {minimum_n} needed"
        return (no_evidence(question, "label_coverage", text),)
    observed, limit = arm.labelled / arm.due, question.rule.limit or 0.0
    text = f"labels are in for {arm.labelled} of {arm.due} mature requests ({observed:.1%}); {limit:.0%} are needed"
    if stable and stable.due:
        text += f"; stable's cohort has {stable.labelled} of {stable.due}"
    broken = Verdict.INCONCLUSIVE
    return (share_reason(question, "label_coverage", observed, arm.due, text, minimum_n=minimum_n, broken=broken),)


KIND = RuleKind(
    metric="label_coverage",
    about="Share of the candidate's mature requests whose label is in; stable's is told beside it.",
    unit="share of requests",
    judge=_judge,
    roles=("quality",),
    needs="whole_rollout",
    direction="higher",
    interval=False,
)
