"""What the holdout says of the candidate's loss against production by block of event time, for the online gate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from sluice.arrays import Floats, Ints
from sluice.documents.loss_history import LossHistory
from sluice.evaluation.intervals import ScoredModel
from sluice.gates.blocks import history_of, shortest_length, sums_by_length
from sluice.gates.loss_history import ArmLosses, design_effect, loss_history
from sluice.targets.kind import LabelCodes
from sluice.targets.yardstick import Yardstick


def loss_histories(
    yardstick: Yardstick,
    labels: LabelCodes,
    hours: Floats,
    candidate: ScoredModel,
    production: ScoredModel,
    stable: str,
    window: tuple[str, str] | None = None,
    slices: Mapping[str, Ints] | None = None,
) -> tuple[tuple[LossHistory, ...], float | None]:
    """
    A history for each length of ``LENGTHS_HOURS`` of which there are blocks enough, and the shortest that will do.

    Args:
        labels: (n, ...) as the target's kind has them.
        hours: (n,) hours since the holdout began.
        candidate, production: of (n, k') predictions each.
        stable: production's digest.
        window: moments at which the holdout begins and ends.
        slices: rows of each slice, by ``name=value``.
    """
    end = float(hours.max(initial=0.0))
    ours, theirs = candidate.predictions, production.predictions
    target = yardstick.target
    covariates = target.covariates(labels, theirs)
    requests = ArmLosses(yardstick.losses(labels, ours), yardstick.losses(labels, theirs), covariates)
    difference = requests.candidate - requests.stable
    lengths = sums_by_length(hours, end, difference, covariates)
    shift = sums_by_length(hours, end, target.shift(ours, theirs), {})
    alike = target.agreement(ours, theirs, (candidate.threshold, production.threshold))
    same = sums_by_length(hours, end, alike.astype(np.float64), {}) if alike is not None else {}
    variance = float(difference.var(ddof=1)) if difference.size > 1 else 0.0
    effects = _slice_effects(hours, end, difference, slices or {})
    histories = (
        loss_history(sums, length, variance, stable, (shift[length], same.get(length)), requests, effects[length])
        for length, sums in lengths.items()
    )
    times = dict(zip(("first", "last"), window, strict=True)) if window else {}
    whole = tuple(history.model_copy(update=times) for history in histories if history)
    return whole, shortest_length(lengths)


def _slice_effects(
    hours: Floats, end: float, difference: Floats, slices: Mapping[str, Ints]
) -> dict[float, dict[str, float]]:
    """By length and slice: a slice has fewer requests a block, so what they share weighs less than in the whole."""
    effects: dict[float, dict[str, float]] = defaultdict(dict)
    for name, rows in slices.items():
        variance = float(difference[rows].var(ddof=1)) if rows.size > 1 else 0.0
        for length, sums in sums_by_length(hours[rows], end, difference[rows], {}).items():
            if variance and (history := history_of(sums)):
                effects[length][name] = design_effect(history, variance)
    return effects
