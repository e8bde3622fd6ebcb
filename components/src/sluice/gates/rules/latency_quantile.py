"""How long do all but the slowest answers take? A slow minute is one event: ``sluice.gates.minutes``."""

from __future__ import annotations

from functools import partial

from sluice.documents.evidence import LATENCY_BOUNDS_MS, SIDES, Histogram
from sluice.documents.verdict import Reason
from sluice.gates.minutes import NOT_COUNTED, latency_effect
from sluice.gates.quantiles import quantile_interval
from sluice.gates.reasons import MeasuredInterval, against_stable, interval_reason, no_evidence
from sluice.gates.roles import COMPARING
from sluice.gates.rule_kind import ARM_N, Question, RuleKind
from sluice.gates.sequential import Interval

_QUANTILES = {"latency_p50": 0.5, "latency_p90": 0.9, "latency_p95": 0.95, "latency_p99": 0.99}


def _judge(question: Question, metric: str) -> tuple[Reason, ...]:
    timings, q, alpha = question.evidence.timings, _QUANTILES[metric], question.alpha
    candidate, stable = timings.candidate_bins, timings.stable_bins
    comparing = question.rule.role in COMPARING
    if candidate is None or candidate.n < ARM_N:
        return (no_evidence(question, metric, "too few timings of the candidate in bins"),)
    effect, peers = (latency_effect(question, side) for side in SIDES)
    if effect is None or (comparing and stable is not None and peers is None):
        return (no_evidence(question, metric, NOT_COUNTED),)
    if not comparing:
        measurement = MeasuredInterval(_interval(candidate, effect, q, alpha), candidate.n, "milliseconds", alpha)
        return (interval_reason(question, metric, measurement),)
    if stable is None or stable.n < ARM_N:
        return (no_evidence(question, metric, "too few timings of stable in bins"),)
    ours, theirs = _interval(candidate, effect, q, alpha / 2), _interval(stable, peers or 1.0, q, alpha / 2)
    n, what = candidate.n + stable.n, f"{ours.estimate:.2f} ms, stable's {theirs.estimate:.2f} ms"
    measurement = against_stable(question, ours, theirs, n=n, what=what, alpha=alpha, unit=" in ms")
    return (interval_reason(question, metric, measurement),)


def _interval(bins: Histogram, effect: float, q: float, alpha: float) -> Interval:
    """So many answers tell as much as one."""
    return quantile_interval([count / effect for count in bins.counts], LATENCY_BOUNDS_MS, q, alpha)


def _kind(metric: str) -> RuleKind:
    share = f"{_QUANTILES[metric]:.0%}"
    return RuleKind(
        metric=metric,
        about=f"Time within which {share} of the answers are there, from counts in bins that are a quarter wide: the "
        "interval ends at ends of bins.",
        unit="ms",
        judge=partial(_judge, metric=metric),
        roles=("limit", "guardrail", "deterioration", "success"),
        relative=("guardrail", "deterioration", "success"),
        limits=(LATENCY_BOUNDS_MS[0], LATENCY_BOUNDS_MS[-1]),
        open_limits=True,
        finest=LATENCY_BOUNDS_MS[1] / LATENCY_BOUNDS_MS[0] - 1,
    )


KINDS = tuple(_kind(metric) for metric in _QUANTILES)
