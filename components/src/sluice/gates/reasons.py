"""Reasons of the online rules: an interval or a share against its bound, and what is said where nothing can be."""

from __future__ import annotations

import math
from typing import NamedTuple

from sluice.documents.verdict import Reason, Verdict
from sluice.gates.blocks import BlockHistory
from sluice.gates.planning import BETA, blocks_needed, observations_needed
from sluice.gates.rates import interval_difference, interval_ratio
from sluice.gates.roles import COMPARING, margin_bound, verdict_of
from sluice.gates.rule_kind import Question
from sluice.gates.sequential import Interval


class MeasuredInterval(NamedTuple):
    """An interval and what it is of."""

    interval: Interval
    """Of the metric itself, of candidate minus stable, or of candidate over stable."""
    n: int
    """Observations that it is made of."""
    what: str
    """What was measured, for people."""
    alpha: float
    equal: float = 0.0
    """Value where both sides are equal: 0 of a difference, 1 of a ratio."""
    variance: float | None = None
    """Of one observation, where the interval is that of a mean difference: then its n can be planned."""
    tuned_at: float = 0.0
    """n* of that interval."""
    blocks: int | None = None
    """Blocks of event time that it is made of, where they are the unit."""
    history: BlockHistory | None = None
    """What was known of such blocks before: then their number can be planned."""


def against_stable(
    question: Question, candidate: Interval, stable: Interval, *, n: int, what: str, alpha: float, unit: str = ""
) -> MeasuredInterval:
    """Difference or ratio, as the rule's margin is one, of intervals that have half of ``alpha`` each."""
    if question.rule.relative_margin is None:
        return MeasuredInterval(interval_difference(candidate, stable), n, f"{what}; difference{unit}", alpha)
    return MeasuredInterval(interval_ratio(candidate, stable), n, f"{what}; ratio", alpha, equal=1.0)


def interval_reason(question: Question, metric: str, measurement: MeasuredInterval, part: str = "") -> Reason:
    """The interval against the rule's bound; ``part`` is the slice, if it is one's."""
    rule, interval, n = question.rule, measurement.interval, measurement.n
    bound = _bound(question, measurement.equal)
    verdict = verdict_of(rule.role, interval, bound, higher=question.higher)
    text = f"{measurement.what}: {_comparison(question, interval, bound)}"
    if verdict is Verdict.PASS and n < question.minimum_n:
        verdict = Verdict.INCONCLUSIVE
        text += f"; these are {n} observations, {question.minimum_n} are needed"
    elif verdict is Verdict.INCONCLUSIVE:
        text += _outlook(question, measurement)
    return Reason.of_interval(
        rule_name(metric, part),
        verdict,
        interval,
        bound=bound,
        n=n,
        text=text,
        role=rule.role,
        alpha=measurement.alpha,
        blocks=measurement.blocks,
    )


def reason_of(question: Question, metric: str, measurement: MeasuredInterval | str) -> Reason:
    """Of an interval, or of the sentence that says why there is none."""
    if isinstance(measurement, str):
        return no_evidence(question, metric, measurement)
    return interval_reason(question, metric, measurement)


def share_reason(
    question: Question,
    metric: str,
    observed: float,
    n: int,
    text: str,
    *,
    minimum_n: int = 0,
    broken: Verdict = Verdict.FAIL,
) -> Reason:
    """A share without an interval against ``limit``; ``broken`` is what it means not to keep it."""
    limit, role = question.rule.limit or 0.0, question.rule.role
    within = observed >= limit if question.higher else observed <= limit
    verdict = Verdict.INCONCLUSIVE if n < minimum_n else Verdict.PASS if within else broken
    return Reason(rule=metric, verdict=verdict, observed=observed, bound=limit, n=n, text=text, role=role)


def no_evidence(question: Question, metric: str, text: str, part: str = "") -> Reason:
    """INCONCLUSIVE: the evidence lacks what the rule needs, and ``text`` names it."""
    plain = Reason.plain(rule_name(metric, part), Verdict.INCONCLUSIVE, text)
    bound = _bound(question, 0.0 if question.rule.relative_margin is None else 1.0)
    return plain.model_copy(update={"bound": bound, "role": question.rule.role})


def rule_name(metric: str, part: str) -> str:
    """``log_loss``, or ``log_loss[region=north]``."""
    return f"{metric}[{part}]" if part else metric


def _bound(question: Question, equal: float) -> float:
    """What the interval is held against: the limit, or the margin on its side of ``equal``."""
    rule = question.rule
    if rule.role not in COMPARING:
        return rule.limit or 0.0
    margin = (rule.margin if rule.relative_margin is None else rule.relative_margin) or 0.0
    return margin_bound(rule.role, margin, higher=question.higher, equal=equal)


def _comparison(question: Question, interval: Interval, bound: float) -> str:
    way = "least" if question.higher else "most"
    wanted = f"better than {bound:g} is wanted" if question.rule.role == "success" else f"at {way} {bound:g} is allowed"
    if math.isnan(interval.estimate):
        return f"no interval yet, {wanted}"
    return f"{interval.estimate:.4f} (between {interval.low:.4f} and {interval.high:.4f}), {wanted}"


def _outlook(question: Question, measurement: MeasuredInterval) -> str:
    """When a candidate as good as stable would be through."""
    rule = question.rule
    if rule.role != "guardrail" or not rule.margin or question.stage.looks:
        return ""
    beta = rule.beta or BETA
    if measurement.history:
        margin = question.online.margin_to_show(rule.margin)
        blocks = blocks_needed(measurement.history, margin, measurement.alpha, beta)
        return f"; an equal candidate shows it by {blocks} blocks in {1 - beta:.0%} of rollouts"
    if measurement.variance is None:
        return ""
    n = observations_needed(measurement.variance, rule.margin, measurement.alpha, beta, measurement.tuned_at)
    return f"; an equal candidate shows it by {n} observations in {1 - beta:.0%} of rollouts"
