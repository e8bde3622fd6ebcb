"""How both scores of a request compare, in shadow, with a block of event time as the unit; it needs no labels."""

from __future__ import annotations

from datetime import timedelta

import numpy as np

from sluice.documents.evidence import LossBlock
from sluice.gates.blocks import MINIMUM_HISTORY, BlockHistory, BlockSums, history_of, plain_intervals
from sluice.gates.loss_blocks import blocks_problem, history_of_pair, whole_blocks
from sluice.gates.reasons import MeasuredInterval
from sluice.gates.rule_kind import Question
from sluice.gates.sequential import Interval

_SUMS = {"score_shift": "shift", "agreement": "same"}
"""Field of a block that sums the metric; its variance in a history is called so too."""


def requests_count(question: Question) -> bool:
    """Whether requests are judged one by one, each worth 1 / ``design_effect``: a policy states it, and no history."""
    return question.online.design_effect is not None and _recorded_variance(question) is None


def score_measurement(question: Question, what: str) -> MeasuredInterval | str:
    """The interval over the blocks that are over; a sentence where there is none."""
    if problem := blocks_problem(question):
        return problem
    hours = question.block_hours
    blocks = whole_blocks(question.evidence, timedelta(hours=hours))
    sums = _block_sums(question.rule.metric, blocks)
    if sums is None:
        return "the evidence has no such sums by block: let what collects it be as new as the gate"
    history = _history(question, sums)
    if history is None:
        have = f"{len(blocks)} of {MINIMUM_HISTORY} blocks of {hours:g} h are in"
        return f"no history says how far requests of one time depend on each other, and {have}"
    if not blocks:
        return f"no block of {hours:g} h is over"
    bounds = plain_intervals(history, sums, question.rule.limit or 0.0, question.alpha, question.block_critical)
    interval = Interval(*(float(ends[-1]) for ends in bounds))
    n = int(sums.counts.sum())
    return MeasuredInterval(
        interval, n, f"{what}, {len(blocks)} blocks of {hours:g} h", question.alpha, blocks=len(blocks)
    )


def _block_sums(metric: str, blocks: tuple[LossBlock, ...]) -> BlockSums | None:
    sums = [getattr(block, _SUMS[metric]) for block in blocks]
    if None in sums:
        return None
    counts = np.array([float(block.requests) for block in blocks])
    return BlockSums(counts, np.array(sums, dtype=np.float64), np.zeros((len(blocks), 0)), ())


def _history(question: Question, sums: BlockSums) -> BlockHistory | None:
    document, variance = history_of_pair(question), _recorded_variance(question)
    if document is None or variance is None:
        return history_of(sums)
    return BlockHistory(document.blocks, document.mean_count, variance, None, ())


def _recorded_variance(question: Question) -> float | None:
    history = history_of_pair(question)
    return getattr(history, f"{_SUMS[question.rule.metric]}_variance") if history else None
