"""The history of a pair of models: from its blocks to the document, and back to what intervals are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from sluice.arrays import Floats
from sluice.documents.loss_history import ArmVariances, LossAdjustment, LossHistory, SliceEffect
from sluice.gates.blocks import Adjustment, BlockHistory, BlockSums, history_of


class ArmLosses(NamedTuple):
    """Of each request, (n,)."""

    candidate: Floats
    stable: Floats
    covariates: Mapping[str, Floats]


def loss_history(
    sums: BlockSums,
    hours: float,
    request_variance: float,
    stable: str | None,
    scores: tuple[BlockSums, BlockSums | None] | None = None,
    requests: ArmLosses | None = None,
    slices: Mapping[str, float] | None = None,
) -> LossHistory | None:
    """
    What (K,) blocks of one length say; ``None`` where they say nothing (``history_of``).

    Args:
        scores: the same blocks' distances of both scores, and requests that both decide alike, where that can be told.
        request_variance: of one request's difference; the design effect is held against it.
        requests: of each request, for what arms' sampling adds.
        slices: design effect of each slice's own blocks.
        stable: digest of the model that was compared with.
    """
    history = history_of(sums)
    if history is None:
        return None
    adjustment = history.adjustment
    return LossHistory(
        stable=stable,
        hours=hours,
        blocks=history.blocks,
        mean_count=_rounded(history.mean_count),
        variance=_rounded(history.variance),
        design_effect=_rounded(design_effect(history, request_variance)),
        slices=tuple(SliceEffect(slice=name, design_effect=_rounded(one)) for name, one in (slices or {}).items()),
        adjustment=_document_of(adjustment, requests) if adjustment else None,
        left_out=history.left_out,
        shift_variance=_variance(scores[0]) if scores else None,
        same_variance=_variance(scores[1]) if scores and scores[1] else None,
    )


def _variance(sums: BlockSums) -> float | None:
    history = history_of(sums)
    return _rounded(history.variance) if history else None


def design_effect(history: BlockHistory, request_variance: float) -> float:
    """Variance of the mean as blocks say it over what independent requests would have (Kish 1965); at least 1."""
    alone = request_variance / history.mean_count
    return max(1.0, history.variance / alone) if alone > 0 else 1.0


def block_history(document: LossHistory) -> BlockHistory:
    """The same as arrays."""
    adjustment, fit = None, document.adjustment
    if fit:
        slopes, means = np.array(fit.slopes), np.array(fit.means)
        adjustment = Adjustment(fit.names, slopes, means, fit.mean_error, fit.variance)
    return BlockHistory(document.blocks, document.mean_count, document.variance, adjustment, document.left_out)


def _document_of(adjustment: Adjustment, requests: ArmLosses | None) -> LossAdjustment:
    return LossAdjustment(
        names=adjustment.names,
        slopes=tuple(map(_rounded, adjustment.slopes.tolist())),
        means=tuple(map(_rounded, adjustment.means.tolist())),
        mean_error=_rounded(adjustment.mean_error),
        variance=_rounded(adjustment.variance),
        arms=_arms(adjustment, requests) if requests else None,
    )


def _arms(adjustment: Adjustment, requests: ArmLosses) -> ArmVariances:
    slopes = zip(adjustment.names, adjustment.slopes, strict=True)
    less = requests.stable + sum(slope * requests.covariates[name] for name, slope in slopes)
    columns = {"candidate": requests.candidate, "stable": requests.stable, "adjusted": less}
    return ArmVariances(**{name: _rounded(float(values.var())) for name, values in columns.items()})


def _rounded(value: float) -> float:
    """Digits beyond these may depend on the machine's arithmetic, and documents are content-addressed."""
    return float(f"{value:.7g}")
