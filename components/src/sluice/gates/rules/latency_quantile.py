"""How long do all but the slowest answers take?"""

from __future__ import annotations

from functools import partial

from sluice.documents.evidence import LATENCY_BOUNDS_MS, Histogram
from sluice.documents.verdict import Reason
from sluice.gates.quantiles import quantile_interval
from sluice.gates.rates import apart, ratio
from sluice.gates.rules.answers import Measured, held, unknown
from sluice.gates.rules.kind import ARM_N, COMPARING, Kind, Question

_QUANTILES = {"latency_p50": 0.5, "latency_p90": 0.9, "latency_p95": 0.95, "latency_p99": 0.99}


def _judge(question: Question, metric: str) -> tuple[Reason, ...]:
    timings, q, alpha = question.evidence.timings, _QUANTILES[metric], question.alpha
    candidate, stable = timings.candidate_bins, timings.stable_bins
    comparing = question.rule.role in COMPARING
    if _few(candidate) or candidate is None:
        return (unknown(question, metric, "too few timings of the candidate in bins"),)
    if not comparing:
        interval = quantile_interval(candidate.counts, LATENCY_BOUNDS_MS, q, alpha)
        return (held(question, metric, Measured(interval, candidate.n, "milliseconds", alpha)),)
    if _few(stable) or stable is None:
        return (unknown(question, metric, "too few timings of stable in bins"),)
    ours = quantile_interval(candidate.counts, LATENCY_BOUNDS_MS, q, alpha / 2)
    theirs = quantile_interval(stable.counts, LATENCY_BOUNDS_MS, q, alpha / 2)
    n, what = candidate.n + stable.n, f"{ours.estimate:.2f} ms, stable's {theirs.estimate:.2f} ms"
    if question.rule.relative_margin is None:
        return (held(question, metric, Measured(apart(ours, theirs), n, f"{what}; difference in ms", alpha)),)
    return (held(question, metric, Measured(ratio(ours, theirs), n, f"{what}; ratio", alpha, base=1.0)),)


def _few(bins: Histogram | None) -> bool:
    return bins is None or bins.n < ARM_N


def _kind(metric: str) -> Kind:
    share = f"{_QUANTILES[metric]:.0%}"
    return Kind(
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
