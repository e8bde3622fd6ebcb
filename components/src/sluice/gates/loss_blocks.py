"""
Candidate's loss against stable's with a block of event time as the unit, as far as evidence and history go.

    history of this pair ─► blocks, adjusted and shared
    none, design_effect ──► requests, each worth 1 / design effect        (the rule itself)
    neither ──────────────► blocks alone, from as many on as a history needs
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np

from sluice.documents.event_time import moment_of
from sluice.documents.evidence import Evidence, LossBlock
from sluice.documents.loss_history import LossAdjustment, LossHistory
from sluice.gates.adjustment import adjusted_sampling, left_out
from sluice.gates.blocks import (
    MINIMUM_HISTORY,
    BlockIntervals,
    BlockSums,
    block_intervals,
    history_of,
)
from sluice.gates.loss_history import block_history, design_effect
from sluice.gates.reasons import MeasuredInterval
from sluice.gates.rule_kind import Question
from sluice.gates.sequential import Interval


def history_of_pair(question: Question) -> LossHistory | None:
    """The history in the evidence, if it is of the model that is stable here and of blocks as the policy wants them."""
    history = question.evidence.history
    fits = history and history.stable == question.state.stable and history.hours == question.block_hours
    return history if fits else None


def effect_of(question: Question, part: str) -> float | None:
    """How many requests of a slice tell as much as one that is independent of all others; ``None``: nobody knows."""
    if history := history_of_pair(question):
        return history.effect_of(part)
    if question.online.design_effect is not None:
        return question.online.design_effect
    blocks, pairs = countable(question), question.evidence.pairs.loss
    own = history_of(block_sums_of(blocks))
    return design_effect(own, pairs.variance) if own and pairs else None


def countable(question: Question) -> tuple[LossBlock, ...]:
    """
    The blocks that are over, with their labels due; a part of a block never counts.

    Where the comparison began before the stage, its first block may be a part.
    """
    evidence, online = question.evidence, question.online
    wait = timedelta(hours=(evidence.block_hours or 0) + online.label_maturity_hours)
    return tuple(block for block in whole_blocks(evidence, wait) if block.weight > 0)


def whole_blocks(evidence: Evidence, wait: timedelta) -> tuple[LossBlock, ...]:
    """The blocks that began ``wait`` ago or earlier, in order, without the part that a first one may be."""
    blocks = sorted(evidence.blocks, key=lambda block: block.start)
    if blocks and evidence.since and blocks[0].start < evidence.since:
        blocks = blocks[1:]
    until = moment_of(evidence.now) - wait
    return tuple(block for block in blocks if moment_of(block.start) <= until)


def block_measurement(question: Question) -> MeasuredInterval | str:
    """The interval over the blocks that count; a sentence where there is none."""
    if problem := blocks_problem(question):
        return problem
    blocks, hours = countable(question), question.block_hours
    document = history_of_pair(question)
    reason = left_out(question, document, blocks)
    adjustment = document.adjustment if document and not reason else None
    sums = block_sums_of(blocks, adjustment)
    history = block_history(document) if document else history_of(sums)
    if history is None:
        have = f"{len(blocks)} of {MINIMUM_HISTORY} blocks of {hours:g} h are in"
        return f"{_missing_history(question)}, and {have}: state a design_effect, or wait"
    if not blocks:
        return f"no block of {hours:g} h is over with its labels due"
    history = history if adjustment else replace(history, adjustment=None)
    what = f"{loss_words(question)} against stable {_WHERE[question.state.is_mirrored]}"
    what += f", {len(blocks)} blocks of {hours:g} h"
    intervals = block_intervals(history, sums, _margin(question), question.alpha, question.block_critical)
    ends = (end[-1] for end in intervals.shared)
    return MeasuredInterval(
        Interval(*(float(end) for end in ends)),
        sum(block.labelled for block in blocks),
        what + _remark(intervals, adjustment, reason),
        question.alpha,
        blocks=len(blocks),
        history=history,
    )


_WHERE = {True: "on the same requests", False: "in the same windows"}


def loss_words(question: Question) -> str:
    """As the policy calls the loss."""
    return question.rule.metric.replace("_", " ")


def _margin(question: Question) -> float:
    """What the mean is held against: the blocks' own spread is taken about it."""
    sign = {"success": -1.0}.get(question.rule.role, 1.0)
    return sign * (question.rule.margin or 0.0)


def _remark(intervals: BlockIntervals, adjustment: LossAdjustment | None, reason: str) -> str:
    if adjustment is None:
        return f", not adjusted: {reason}"
    if bool(intervals.apart[-1]):
        return ", not adjusted: history's answer and this rollout's do not meet, so the world may have moved"
    return f", adjusted by history for stable's {' and '.join(adjustment.names)}"


def _missing_history(question: Question) -> str:
    history = question.evidence.history
    if history is None:
        return "no history says how far requests of one time depend on each other"
    if history.stable != question.state.stable:
        return "the history in the evidence is of another pair of models"
    return f"the history has blocks of {history.hours:g} h, the rollout of {question.block_hours:g} h"


def block_sums_of(blocks: Sequence[LossBlock], adjustment: LossAdjustment | None = None) -> BlockSums:
    """As arrays, with the covariates of an adjustment that ``left_out`` does not leave out."""
    names = adjustment.names if adjustment else ()
    covariates = [[block.covariates[name] for name in names] for block in blocks]
    sampling = np.array([block.sampling for block in blocks])
    is_split = bool(sampling.any())
    less = np.array([adjusted_sampling(block, adjustment) for block in blocks]) if adjustment and is_split else None
    return BlockSums(
        counts=np.array([block.weight for block in blocks]),
        judged=np.array([block.difference for block in blocks]),
        covariates=np.array(covariates, dtype=np.float64).reshape(len(blocks), len(names)),
        names=names,
        sampling=sampling if is_split else None,
        adjusted_sampling=less,
    )


def blocks_problem(question: Question) -> str | None:
    """Why the blocks of the evidence cannot be judged by, in a sentence."""
    evidence, wanted_hours = question.evidence, question.block_hours
    if evidence.block_hours is None:
        return (
            "the evidence counts requests alone: let what collects it be as new as the gate, or state a design_effect"
        )
    if evidence.block_hours != wanted_hours:
        return f"the evidence has blocks of {evidence.block_hours:g} h, the rollout of {wanted_hours:g} h"
    return _contradiction(evidence, mirrored=question.state.is_mirrored)


def _contradiction(evidence: Evidence, *, mirrored: bool) -> str | None:
    """How blocks and totals disagree."""
    starts = [block.start for block in evidence.blocks]
    if len(set(starts)) < len(starts):
        return "the evidence has a block twice"
    hours, since = evidence.block_hours or 1.0, moment_of(evidence.since or evidence.now)
    places = [(moment_of(start) - since).total_seconds() / 3600 / hours for start in starts]
    if any(abs(place - round(place)) > 1e-6 for place in places):
        return "the evidence has a block that does not begin where blocks of this stage do"
    requests, labelled = (sum(getattr(block, key) for block in evidence.blocks) for key in ("requests", "labelled"))
    if not mirrored:
        both = sum(stratum.candidate.n + stratum.stable.n for stratum in evidence.strata)
        return f"the blocks have {labelled} labels, the windows {both}" if labelled > both else None
    shift, loss = evidence.pairs.shift, evidence.pairs.loss
    totals = (shift.n if shift else 0, loss.n if loss else 0)
    if (requests, labelled) != totals:
        return f"the blocks have {requests} pairs, {labelled} with labels; the totals are {totals[0]} and {totals[1]}"
    return None
