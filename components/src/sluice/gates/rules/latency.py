"""How long does an answer take on average?"""

from __future__ import annotations

from sluice.gates.rules.answers import Measured, held, unknown
from sluice.gates.rules.kind import ARM_N, COMPARING, Kind, Question
from sluice.gates.sequential import Sample, difference, mean_interval, ratio_of_means
from sluice.gates.verdict import Reason
from sluice.monitoring.evidence import Moments


def _judge(question: Question) -> tuple[Reason, ...]:
    timings = question.evidence.timings
    candidate, stable, paired = timings.candidate, timings.stable, timings.difference
    alpha, tuned_at = question.alpha, question.minimum_n
    if candidate is None or candidate.n < ARM_N:
        return (unknown(question, "latency", "too few timings of the candidate"),)
    if question.rule.role not in COMPARING:
        interval = mean_interval(candidate.mean, candidate.variance, candidate.n, alpha, tuned_at)
        return (held(question, "latency", Measured(interval, candidate.n, "milliseconds an answer", alpha)),)
    if stable is None or stable.n < ARM_N:
        return (unknown(question, "latency", "too few timings of stable"),)
    what = f"answers take {candidate.mean:.2f} ms, stable's {stable.mean:.2f} ms"
    n = candidate.n + stable.n
    if question.rule.relative_margin is not None:
        interval = ratio_of_means(_sample(candidate), _sample(stable), alpha, 2 * tuned_at)
        return (held(question, "latency", Measured(interval, n, f"{what}; ratio", alpha, base=1.0)),)
    if paired is not None and paired.n >= ARM_N:
        interval = mean_interval(paired.mean, paired.variance, paired.n, alpha, tuned_at)
        return (held(question, "latency", Measured(interval, paired.n, f"{what}; ms on the same requests", alpha)),)
    interval = difference([(_sample(candidate), _sample(stable))], alpha, 2 * tuned_at)
    return (held(question, "latency", Measured(interval, n, f"{what}; difference in ms", alpha)),)


def _sample(moments: Moments) -> Sample:
    return Sample(moments.n, moments.mean, moments.variance)


KIND = Kind(
    metric="latency",
    about="Mean time of an answer. As deterioration it FAILs only what is surely slower and else PASSes, so that no "
    "decision hangs on the noise of a stopwatch.",
    unit="ms",
    judge=_judge,
    roles=("limit", "guardrail", "deterioration", "success"),
    relative=("guardrail", "deterioration", "success"),
    limits=(0.0, 3.6e6),
    open_limits=True,
)
