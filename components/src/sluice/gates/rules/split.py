"""Did requests go where the weights say? A wrong split makes every comparison worthless."""

from __future__ import annotations

from sluice.documents.verdict import Reason, Verdict
from sluice.gates.rule_kind import Question, RuleKind
from sluice.gates.sequential import is_broken


def _judge(question: Question) -> tuple[Reason, ...]:
    evidence, state = question.evidence, question.state
    other, candidate = evidence.split
    n = other + candidate
    weight = state.candidate_share
    broken = is_broken(evidence.split, weight, question.alpha)
    what = "mirrored to the candidate" if state.is_mirrored else "sent to the candidate"
    reason = Reason(
        rule="split",
        verdict=Verdict.FAIL if broken else Verdict.PASS if n else Verdict.INCONCLUSIVE,
        observed=candidate / n if n else None,
        bound=weight / 100,
        n=n,
        text=f"{candidate} of {n} requests were {what}, {weight} % were planned"
        + ("; the traffic is not split as decided, so nothing else is read" if broken else ""),
        role=question.rule.role,
        alpha=question.alpha,
    )
    return (reason,)


KIND = RuleKind(
    metric="split",
    about="Share of requests that reached the candidate, against the weight or mirror that was decided. Asked before "
    "anything else, and when it fails nothing else is read; the candidate is rolled back without a hold.",
    unit="share",
    judge=_judge,
    roles=("quality",),
    needs="has_traffic",
    direction="lower",
    limits=None,
    counted=False,
)
