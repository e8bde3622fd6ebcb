"""
When the difference of losses is adjusted by what history says of stable's surprise, and when that is left out.

In shadow both models answer the same requests, and so the covariates are theirs. Where arms answer different requests,
stable's surprise is known on its own requests alone, but in a window chance decided which went where: its mean there is
that of all, but for sampling. With slopes β, arms of n₁ and n₂ requests and losses l₁, l₂,

    difference − β · surprise = mean(l₁) − mean(l₂ + β c),  of sampling variance  v(l₁) / n₁ + v(l₂ + β c) / n₂,

two independent means. It costs where the second variance is larger and gains where blocks share shocks, so history says
beforehand whether it narrows at the share that the candidate has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

from sluice.documents.event_time import moment_of
from sluice.documents.evidence import Evidence, LossBlock
from sluice.documents.loss_history import LossAdjustment, LossHistory, product_name
from sluice.gates.blocks import TUNED_AT, sequence_critical
from sluice.gates.rule_kind import Question


def left_out(question: Question, history: LossHistory | None, blocks: Sequence[LossBlock]) -> str:
    """Why nothing is adjusted, in words; empty where it is."""
    if history is None:
        return "no history of this pair knows slopes and long-run means"
    adjustment = history.adjustment
    if adjustment is None:
        return "nothing that history knows of stable's surprise varies"
    if is_stale(history, question.evidence.since):
        return f"history ends on {str(history.last)[:10]}, longer ago than it lasts"
    is_split = any(block.sampling for block in blocks)
    if not all(_knows(block, adjustment, is_split=is_split) for block in blocks):
        return "the evidence does not say by block how surprised stable was"
    return _too_wide(question, history, adjustment) if is_split else ""


def _too_wide(question: Question, history: LossHistory, adjustment: LossAdjustment) -> str:
    if adjustment.arms is None:
        return "history does not say what the arms' sampling would add"
    share = candidate_share(question.evidence)
    if narrowing(history, adjustment, share, question.alpha) >= 1:
        return f"at a share of {share:.0%} that would not narrow"
    return ""


def is_stale(history: LossHistory, since: str | None) -> bool:
    """Whether it ended longer before the stage began than it lasted: its long-run means may be another season's."""
    if history.first is None or history.last is None or since is None:
        return False
    first, last = moment_of(history.first), moment_of(history.last)
    return moment_of(since) - last > last - first


def narrowing(history: LossHistory, adjustment: LossAdjustment, share: float, alpha: float) -> float:
    """
    Width that is to be expected of the adjusted interval with half of alpha, over that of the other with all of it.

    At ``TUNED_AT`` blocks as large as history's, of which the candidate answered ``share``.
    """
    arms = adjustment.arms
    if arms is None or not 0 < share < 1:
        return math.inf
    ours, theirs = share * history.mean_count, (1 - share) * history.mean_count
    plain = history.variance + arms.candidate / ours + arms.stable / theirs
    narrow = adjustment.variance + arms.candidate / ours + arms.adjusted / theirs
    more = NormalDist().inv_cdf(1 - alpha / 4) * math.sqrt(adjustment.mean_error)
    widths = (
        sequence_critical(TUNED_AT, error) * math.sqrt(variance / TUNED_AT)
        for variance, error in ((narrow, alpha / 2), (plain, alpha))
    )
    first, second = widths
    return (first + more) / second if second > 0 else math.inf


def candidate_share(evidence: Evidence) -> float:
    """Of the labelled requests that are compared, those that the candidate answered."""
    ours, theirs = (arm.loss.n if arm and arm.loss else 0 for arm in (evidence.candidate, evidence.stable))
    return ours / (ours + theirs) if ours + theirs else 0.0


def adjusted_sampling(block: LossBlock, adjustment: LossAdjustment) -> float:
    """``LossBlock.sampling`` of the adjusted difference."""
    names, slopes = adjustment.names, adjustment.slopes
    loss = sum(2 * slope * _product(block, "loss", name) for name, slope in zip(names, slopes, strict=True))
    each = zip(names, slopes, strict=True)
    common = sum(
        first * second * _product(block, name, other)
        for name, first in each
        for other, second in zip(names, slopes, strict=True)
    )
    return max(0.0, block.sampling + loss + common)


def _product(block: LossBlock, first: str, second: str) -> float:
    forward = block.products.get(product_name(first, second))
    return block.products[product_name(second, first)] if forward is None else forward


def _knows(block: LossBlock, adjustment: LossAdjustment, *, is_split: bool) -> bool:
    names = adjustment.names
    pairs = {(first, second) for first in ("loss", *names) for second in names} if is_split else set()
    either = ({product_name(first, second), product_name(second, first)} for first, second in pairs)
    return set(names) <= block.covariates.keys() and all(both & block.products.keys() for both in either)
