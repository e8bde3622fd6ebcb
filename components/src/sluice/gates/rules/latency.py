"""How long does an answer take on average? A slow minute is one event: ``sluice.gates.minutes``."""

from __future__ import annotations

from sluice.documents.evidence import SIDES, Moments
from sluice.documents.verdict import Reason
from sluice.gates.minutes import NOT_COUNTED, latency_effect
from sluice.gates.reasons import MeasuredInterval, interval_reason, no_evidence
from sluice.gates.roles import COMPARING
from sluice.gates.rule_kind import ARM_N, Question, RuleKind
from sluice.gates.sequential import MeanEstimate, SampleMoments, ratio_of_means, stratified_difference

_Timed = tuple[Moments, float]
"""Of one side, and how many of its answers tell as much as one."""


def _judge(question: Question) -> tuple[Reason, ...]:
    candidate, stable = question.evidence.timings.candidate, question.evidence.timings.stable
    if candidate is None or candidate.n < ARM_N:
        return (no_evidence(question, "latency", "too few timings of the candidate"),)
    effect, peers = (latency_effect(question, side) for side in SIDES)
    if question.rule.role not in COMPARING:
        if effect is None:
            return (no_evidence(question, "latency", NOT_COUNTED),)
        return (interval_reason(question, "latency", _mean(question, candidate, "milliseconds an answer", effect)),)
    if stable is None or stable.n < ARM_N:
        return (no_evidence(question, "latency", "too few timings of stable"),)
    if effect is None or peers is None:
        return (no_evidence(question, "latency", NOT_COUNTED),)
    return (interval_reason(question, "latency", _against(question, (candidate, effect), (stable, peers))),)


def _against(question: Question, candidate: _Timed, stable: _Timed) -> MeasuredInterval:
    paired, alpha = question.evidence.timings.difference, question.alpha
    what = f"answers take {candidate[0].mean:.2f} ms, stable's {stable[0].mean:.2f} ms"
    relative = question.rule.relative_margin is not None
    if paired is not None and paired.n >= ARM_N and not relative:
        effect = max(candidate[1], stable[1])  # nobody counts differences by minute: they share no more than both sides
        return _mean(question, paired, f"{what}; more ms on the same requests", effect)
    ours, theirs = (SampleMoments(one.n, one.mean, effect * one.variance) for one, effect in (candidate, stable))
    n = ours.n + theirs.n
    critical = question.critical(n, alpha, 2 * question.minimum_n)
    if relative:
        return MeasuredInterval(ratio_of_means(ours, theirs, critical), n, f"{what}; ratio", alpha, equal=1.0)
    return MeasuredInterval(stratified_difference([(ours, theirs)]).within(critical), n, f"{what}; more ms", alpha)


def _mean(question: Question, moments: Moments, what: str, effect: float) -> MeasuredInterval:
    critical = question.critical(moments.n, question.alpha, question.minimum_n)
    interval = MeanEstimate(moments.mean, effect * moments.variance / moments.n, moments.n).within(critical)
    return MeasuredInterval(interval, moments.n, what, question.alpha)


KIND = RuleKind(
    metric="latency",
    about="Mean time of an answer. As deterioration it FAILs only what is surely slower and else PASSes, so that no "
    "decision hangs on the noise of a stopwatch.",
    unit="ms",
    judge=_judge,
    roles=("limit", "guardrail", "deterioration", "success"),
    relative=("guardrail", "deterioration", "success"),
    limits=(0.0, 3.6e6),
    open_limits=True,
    planned=True,
)
