"""How often does an answer fail?"""

from __future__ import annotations

from sluice.documents.evidence import Arm, Share
from sluice.documents.verdict import Reason
from sluice.gates.rates import proportion_interval
from sluice.gates.reasons import MeasuredInterval, against_stable, interval_reason, no_evidence
from sluice.gates.roles import COMPARING
from sluice.gates.rule_kind import Question, RuleKind
from sluice.gates.slices import by_slice


def _judge(question: Question) -> tuple[Reason, ...]:
    comparing = question.rule.role in COMPARING
    if question.rule.per_slice:
        parts = {
            name: (part.candidate, part.stable if comparing else None)
            for name, part in question.evidence.slices.items()
            if part.candidate and (part.stable or not comparing)
        }
        sizes = {name: ours.n + (theirs.n if theirs else 0) for name, (ours, theirs) in parts.items()}
        return by_slice(question, "error_rate", sizes, lambda name, alpha: _measurement(question, *parts[name], alpha))
    candidate, stable = _share(question.evidence.candidate), _share(question.evidence.stable)
    if candidate is None or (comparing and stable is None):
        side = "stable" if candidate else "the candidate"
        return (no_evidence(question, "error_rate", f"no request reached {side}"),)
    measurement = _measurement(question, candidate, stable if comparing else None, question.alpha)
    return (interval_reason(question, "error_rate", measurement),)


def _measurement(question: Question, candidate: Share, stable: Share | None, alpha: float) -> MeasuredInterval:
    what = f"{candidate.hits} of {candidate.n} answers failed"
    if stable is None:
        return MeasuredInterval(proportion_interval(candidate.hits, candidate.n, alpha), candidate.n, what, alpha)
    ours = proportion_interval(candidate.hits, candidate.n, alpha / 2)
    theirs = proportion_interval(stable.hits, stable.n, alpha / 2)
    what, n = f"{what}, {stable.hits} of {stable.n} of stable's", candidate.n + stable.n
    return against_stable(question, ours, theirs, n=n, what=what, alpha=alpha)


def _share(arm: Arm | None) -> Share | None:
    return Share.model_construct(n=arm.n, hits=arm.errors) if arm and arm.n else None


KIND = RuleKind(
    metric="error_rate",
    about="Share of the candidate's answers that failed: 5xx, or without a finite score.",
    unit="share of answers",
    judge=_judge,
    roles=("limit", "guardrail", "deterioration"),
    relative=("deterioration",),
    open_limits=True,
    sliced=True,
    widest=1.0,
)
