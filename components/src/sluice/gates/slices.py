"""One rule asked of every slice that is large enough."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from sluice.documents.verdict import Reason, Verdict
from sluice.gates.reasons import MeasuredInterval, interval_reason, no_evidence
from sluice.gates.rule_kind import Question
from sluice.gates.sequential import Interval


def by_slice(
    question: Question, metric: str, sizes: Mapping[str, int], measure: Callable[[str, float], MeasuredInterval]
) -> tuple[Reason, ...]:
    """
    One reason for each slice that does not pass, and one for the rest.

    One false alarm is enough to fail, so slices share the error of FAIL: with K of them large enough now, each has
    alpha / (K (K + 1)). K never falls while a stage lasts, so the k-th slice to become large enough was never judged
    with more than alpha / (k (k + 1)), and these add up to alpha however many there will be: the union bound holds at
    every look though nobody knew the slices in advance. (Which slice grows fast must not hang on how well it is
    answered; who sends requests does not know the answers.) All slices must PASS, so the end of the interval that
    decides about that has all of alpha: one slice beyond the margin would have to miss alone.

    Args:
        sizes: observations by slice.
        measure: the interval of one slice at an alpha.
    """
    large = sorted(name for name, n in sizes.items() if n >= question.minimum_n)
    small = len(question.evidence.slices) - len(large)
    if not large:
        why = f"none of {small} has {question.minimum_n} observations" if small else "the evidence has no slices"
        return (no_evidence(question, metric, f"no slice can be judged: {why}", "slices"),)
    alpha = question.alpha / (len(large) * (len(large) + 1))
    reasons = [interval_reason(question, metric, _measurement(question, measure, name, alpha), name) for name in large]
    passes = [reason for reason in reasons if reason.verdict is Verdict.PASS]
    others = tuple(reason for reason in reasons if reason.verdict is not Verdict.PASS)
    return (*others, _summary(metric, passes, len(large), small, higher=question.higher)) if passes else others


def _measurement(
    question: Question, measure: Callable[[str, float], MeasuredInterval], name: str, shared: float
) -> MeasuredInterval:
    """The end that may fail the slice at the shared alpha, the end that may pass it at the rule's own."""
    strict = measure(name, shared)
    if question.rule.role == "deterioration":
        return strict
    loose = measure(name, question.alpha)
    low, high = (loose, strict) if question.higher else (strict, loose)
    ends = Interval(strict.interval.estimate, low.interval.low, high.interval.high)
    return loose._replace(interval=ends)


def _summary(metric: str, passes: list[Reason], judged: int, small: int, *, higher: bool) -> Reason:
    sign = -1.0 if higher else 1.0
    worst = max(
        passes, key=lambda reason: (sign * (math.inf if reason.observed is None else reason.observed), reason.rule)
    )
    remainder = f"; {small} slices are too small to be judged" if small else ""
    text = f"{len(passes)} of {judged} judged slices pass; the worst is {worst.rule}, {worst.text}{remainder}"
    n = sum(reason.n for reason in passes)
    return worst.model_copy(update={"rule": f"{metric}[slices]", "text": text, "n": n})
