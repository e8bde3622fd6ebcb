"""Evidence by block of event time, with the history of its pair: random days that share shocks."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np

from sluice.documents.event_time import iso, moment_of
from sluice.documents.evidence import Evidence, LossBlock
from sluice.documents.loss_history import LossAdjustment, LossHistory
from tests.support.release import A

HOURS = 12


def history(variance: float = 0.0004, **changed: Any) -> LossHistory:
    """Of the pair with stable A, 60 blocks of 400 requests; adjustment leaves a quarter of the variance."""
    adjustment = LossAdjustment(
        names=("residual",), slopes=(0.5,), means=(0.0,), mean_error=variance / 240, variance=variance / 4
    )
    document = LossHistory(
        stable=A,
        hours=HOURS,
        blocks=60,
        mean_count=400,
        variance=variance,
        design_effect=18,
        adjustment=adjustment,
        shift_variance=variance,
        same_variance=variance,
    )
    return document.model_copy(update=changed)


def in_blocks(
    evidence: Evidence,
    worse: float = 0.0,
    *,
    blocks: int = 10,
    spread: float = 0.01,
    surprise: float = 0.0,
    history: LossHistory | None = None,
    **changed: Any,
) -> Evidence:
    """
    The evidence with ``blocks`` of ``HOURS``, the last of which ends as it was taken.

    Args:
        worse: candidate's mean loss above stable's.
        spread: standard deviation of what the blocks' means differ by.
        surprise: mean of stable's residual.
    """
    noise = np.random.default_rng(5).normal(0, spread, blocks)
    noise -= noise.mean()
    since = moment_of(evidence.now) - timedelta(hours=HOURS * blocks)
    paired, each = evidence.stage == "shadow", 400
    made = tuple(
        LossBlock(
            start=iso(since + timedelta(hours=HOURS * number)),
            requests=each,
            labelled=each,
            weight=each if paired else each / 4,
            difference=(worse + float(noise[number])) * (each if paired else each / 4),
            sampling=0.0 if paired else each / 4 * 0.09,
            covariates={"residual": surprise * each} if paired else {},
        )
        for number in range(blocks)
    )
    update = {"block_hours": HOURS, "blocks": made, "history": history, "since": iso(since)} | changed
    update |= {"pairs": _pairs(evidence, each * blocks)} if paired else {}
    return evidence.model_copy(update=update)


def _pairs(evidence: Evidence, n: int) -> Any:
    moments = {key: getattr(evidence.pairs, key).model_copy(update={"n": n}) for key in ("shift", "loss")}
    return evidence.pairs.model_copy(update=moments)
