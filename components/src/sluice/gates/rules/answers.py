"""Reasons: how an interval is held against a bound in each role, and what is said where nothing can be."""

from __future__ import annotations

import math
from typing import NamedTuple

from sluice.documents.verdict import Reason, Verdict
from sluice.gates.planning import BETA, observations_needed
from sluice.gates.rules.kind import COMPARING, Question
from sluice.gates.sequential import Interval


class Measured(NamedTuple):
    """An interval and what it is of."""

    interval: Interval
    """Of the metric itself, of candidate minus stable, or of candidate over stable."""
    n: int
    """Observations that it is made of."""
    what: str
    """What was measured, for people."""
    alpha: float
    base: float = 0.0
    """Value where both sides are equal: 0 of a difference, 1 of a ratio."""
    variance: float | None = None
    """Of one observation, where the interval is that of a mean difference: then its n can be planned."""
    tuned_at: float = 0.0
    """n* of that interval."""


def held(question: Question, metric: str, measured: Measured, named: str = "") -> Reason:
    """The interval against the rule's bound; ``named`` is the slice, if it is one's."""
    rule, interval, n = question.rule, measured.interval, measured.n
    bound = bound_of(question, measured.base)
    verdict = _verdict(rule.role, interval, bound, higher=question.higher)
    few = verdict is Verdict.PASS and n < question.minimum_n
    return Reason(
        rule=titled(metric, named),
        verdict=Verdict.INCONCLUSIVE if few else verdict,
        observed=interval.estimate,
        low=_finite(interval.low),
        high=_finite(interval.high),
        bound=bound,
        n=n,
        text=f"{measured.what}: {_told(question, interval, bound)}"
        + (f"; these are {n} observations, {question.minimum_n} are needed" if few else "")
        + (_outlook(question, measured) if verdict is Verdict.INCONCLUSIVE else ""),
        role=rule.role,
        alpha=measured.alpha,
    )


def share(question: Question, metric: str, observed: float, n: int, text: str, *, otherwise: Verdict) -> Reason:
    """A plain share against ``limit``, without an interval; ``otherwise`` is what it means not to keep it."""
    limit = question.rule.limit or 0.0
    kept = observed >= limit if question.higher else observed <= limit
    few = n < question.minimum_n
    verdict = Verdict.INCONCLUSIVE if few else Verdict.PASS if kept else otherwise
    role = question.rule.role
    return Reason(rule=metric, verdict=verdict, observed=observed, bound=limit, n=n, text=text, role=role)


def unknown(question: Question, metric: str, text: str, named: str = "") -> Reason:
    """INCONCLUSIVE: the evidence lacks what the rule needs, and ``text`` names it."""
    return Reason(
        rule=titled(metric, named),
        verdict=Verdict.INCONCLUSIVE,
        observed=None,
        bound=bound_of(question, 0.0 if question.rule.relative_margin is None else 1.0),
        n=0,
        text=text,
        role=question.rule.role,
    )


def bound_of(question: Question, base: float) -> float:
    """What the interval is held against: the limit, or the margin on its side of ``base``."""
    rule = question.rule
    if rule.role not in COMPARING:
        return rule.limit or 0.0
    margin = (rule.margin if rule.relative_margin is None else rule.relative_margin) or 0.0
    return base - margin if (rule.role == "success") != question.higher else base + margin


def titled(metric: str, named: str) -> str:
    """``log_loss``, or ``log_loss[region=north]``."""
    return f"{metric}[{named}]" if named else metric


def _verdict(role: str, interval: Interval, bound: float, *, higher: bool) -> Verdict:
    low, high = (-interval.high, -interval.low) if higher else (interval.low, interval.high)
    bound = -bound if higher else bound
    if role == "deterioration":
        return Verdict.FAIL if low > bound else Verdict.PASS
    if role == "success":
        return Verdict.PASS if high < bound else Verdict.FAIL if low >= bound else Verdict.INCONCLUSIVE
    return Verdict.PASS if high <= bound else Verdict.FAIL if low > bound else Verdict.INCONCLUSIVE


def _told(question: Question, interval: Interval, bound: float) -> str:
    way = "least" if question.higher else "most"
    asked = {"success": f"better than {bound:g} is wanted"}.get(question.rule.role, f"at {way} {bound:g} is allowed")
    return f"{interval.estimate:.4f} (between {interval.low:.4f} and {interval.high:.4f}), {asked}"


def _outlook(question: Question, measured: Measured) -> str:
    """When a candidate as good as stable would be through."""
    rule = question.rule
    if measured.variance is None or rule.role != "guardrail" or not rule.margin or question.stage.looks:
        return ""
    beta = rule.beta or BETA
    enough = observations_needed(measured.variance, rule.margin, measured.alpha, beta, measured.tuned_at)
    return f"; an equal candidate shows it by {enough} observations in {1 - beta:.0%} of rollouts"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
