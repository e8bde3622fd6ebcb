"""
Looks at which nothing can be decided, found from sums alone, so that the rules need not be asked.

Nothing is decided while no rule can FAIL, some rule cannot PASS, and no time is over. What a rule can is bounded from
outside: an estimate lies inside its interval, and an interval of a mean is as wide as its critical value says. What is
not bounded here may do anything, so the rules are asked. A test plays both ways.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sluice.arrays import Floats
from sluice.documents.evidence import LATENCY_BOUNDS_MS
from sluice.documents.loss_history import LossHistory
from sluice.documents.minutes import MinuteCounts
from sluice.gates.adjustment import narrowing
from sluice.gates.blocks import FIRST_LOOK, BlockSums, block_intervals
from sluice.gates.minutes import failures_effect
from sluice.gates.online_policy import Online
from sluice.gates.sequential import critical_value
from sluice.simulation.blocks import BlockTable, arrays_of
from sluice.simulation.counting import Sums, Tally
from sluice.stages.section import OnlineRule, OnlineStage
from sluice.targets.registry import LOSS_NAMES

_LEAST = 0.8
"""Share of the width that is left at least where labels are missing: predictions stand in for them and narrow it."""
_SURELY = 0.999
"""Room for rounding."""
_SPLIT = 2.0
"""Standard errors from which a split may be broken; at an alpha of 0.1 it takes more than that."""


class Can(NamedTuple):
    """What a rule can say at this look."""

    passing: bool
    failing: bool


ANYTHING = Can(passing=True, failing=True)


class Look(NamedTuple):
    """What there is to see of a stage."""

    stage: str
    weight: int
    """Percent of the traffic that is planned for the candidate."""
    mirrored: bool
    """Whether those are copies."""
    hours: float
    """Since the stage began."""
    tally: Tally
    strata: Floats
    """(windows, 28): as ``Counted.changing``, of the cohort."""
    bins: Floats
    slices: Floats
    """(SLICES, 6), of requests that both answered."""
    mismatch: float
    minutes: MinuteCounts
    """The candidate's."""
    blocks: BlockTable | None
    """By block of event time; ``None`` where the policy states a design effect instead."""
    history: LossHistory | None


def idle(look: Look, online: Online) -> bool:
    """Whether surely nothing is decided."""
    stage = online.stages.get(look.stage)
    if stage is None or stage.looks is not None:
        return False
    ends = [rule.maximum_hours for rule in stage.rules if rule.maximum_hours is not None]
    if look.hours >= min((stage.maximum_hours, *ends)):
        return False
    undecided = look.hours < stage.soak_hours or look.tally.candidate.n < stage.minimum_n
    for rule in stage.rules:
        can = _VIEWS.get(rule.metric, _anything)(look, rule, stage, online)
        if can.failing:
            return False
        undecided = undecided or not can.passing
    return undecided


def _anything(_: Look, __: OnlineRule, ___: OnlineStage, ____: Online) -> Can:
    return ANYTHING


def _split(look: Look, _: OnlineRule, __: OnlineStage, ___: Online) -> Can:
    k, stable, planned = look.tally.candidate.n, look.tally.stable.n, look.weight / 100
    n = stable if look.mirrored else stable + k
    if n == 0 or look.weight == 100:
        return Can(passing=n > 0, failing=k < n)
    return Can(passing=True, failing=abs(k - n * planned) > _SPLIT * math.sqrt(n * planned * (1 - planned)))


def _parity(look: Look, rule: OnlineRule, _: OnlineStage, __: Online) -> Can:
    return Can(passing=True, failing=look.mismatch > (rule.limit or 0))


def _coverage(look: Look, rule: OnlineRule, stage: OnlineStage, _: Online) -> Can:
    """Never a FAIL: labels that are missing blame nobody."""
    due, labelled = look.tally.candidate.due, look.tally.candidate.labelled
    enough = due >= (rule.minimum_n or stage.minimum_n) and labelled >= (rule.limit or 0) * due
    return Can(passing=enough, failing=False)


def _errors(look: Look, rule: OnlineRule, stage: OnlineStage, online: Online) -> Can:
    """A mixture of likelihoods is at most the greatest of them: what that does not reject is inside the interval."""
    limit, minutes = rule.limit or 0.0, look.minutes
    n, errors = minutes.requests, minutes.errors
    harm = rule.stop_at is not None and minutes.failing >= rule.stop_at
    if rule.role != "limit" or n == 0 or harm or not 0 < limit < 1:
        return ANYTHING
    effect = failures_effect(minutes, n, errors, online)
    hits, misses = errors / effect, (n - errors) / effect
    ratio = (hits * math.log(errors / n / limit) if hits else 0.0) + (
        misses * math.log((n - errors) / n / (1 - limit)) if misses else 0.0
    )
    ratio_bound = ratio >= _SURELY * math.log(1 / (rule.alpha or online.alpha))
    above = errors > limit * n
    enough = n >= (rule.minimum_n or stage.minimum_n)
    return Can(passing=ratio_bound and not above and enough, failing=ratio_bound and above)


def _refusals(look: Look, rule: OnlineRule, _: OnlineStage, __: Online) -> Can:
    sides = look.tally.candidate, look.tally.stable
    if rule.role == "limit" or rule.margin is None or min(side.n for side in sides) == 0:
        return ANYTHING
    ours, theirs = (side.refused / side.n for side in sides)
    more = ours > theirs + rule.margin
    return Can(passing=rule.role == "deterioration" or not more, failing=more)


def _latency(look: Look, rule: OnlineRule, _: OnlineStage, __: Online) -> Can:
    sides = look.tally.candidate.milliseconds, look.tally.stable.milliseconds
    if rule.role != "deterioration" or rule.relative_margin is None or min(side.n for side in sides) == 0:
        return ANYTHING
    ours, theirs = (side.total / side.n for side in sides)
    return Can(passing=True, failing=ours > (1 + rule.relative_margin) * theirs)


def _quantile(look: Look, rule: OnlineRule, _: OnlineStage, __: Online) -> Can:
    if rule.role != "deterioration" or rule.relative_margin is None or not len(look.bins):
        return ANYTHING
    share, ends = float(rule.metric.removeprefix("latency_p")) / 100, (*LATENCY_BOUNDS_MS, math.inf)
    counts = look.bins.sum(axis=0).cumsum(axis=1)
    ours, theirs = (ends[int(np.searchsorted(side, share * side[-1]))] for side in counts)
    return Can(passing=True, failing=ours > (1 + rule.relative_margin) * theirs)


def _loss(look: Look, rule: OnlineRule, stage: OnlineStage, online: Online) -> Can:
    if rule.role != "guardrail":
        return ANYTHING
    margin, needed = rule.margin or 0.0, rule.minimum_n or stage.minimum_n
    alpha = rule.alpha or online.alpha
    effect = look.history.design_effect if look.history else online.design_effect or 1.0
    if look.blocks and look.history and not rule.per_slice:
        over = int((look.hours - online.label_maturity_hours) // look.history.hours)
        history = _played(look, look.history, alpha)
        return _by_block(look.blocks.countable(over, history.adjustment), history, margin, alpha)
    if not look.mirrored:
        return ANYTHING if rule.per_slice else _stratified(look, margin, needed, alpha, effect)
    if not rule.per_slice:
        return _paired(look.tally.pair_loss, margin, needed, alpha, effect)
    rows = [row for row in look.slices[:, :3].tolist() if row[0] >= needed]
    strata = [_paired(Sums(*row), margin, needed, alpha, effect) for row in rows]
    passing = bool(strata) and all(can.passing for can in strata)
    return Can(passing=passing, failing=any(can.failing for can in strata))


def _played(look: Look, history: LossHistory, alpha: float) -> LossHistory:
    """The history without an adjustment that ``sluice.gates.adjustment`` leaves out."""
    ours, theirs = look.tally.candidate.loss.n, look.tally.stable.loss.n
    if look.mirrored or history.adjustment is None or not ours + theirs:
        return history
    wide = narrowing(history, history.adjustment, ours / (ours + theirs), alpha) >= 1
    return history.model_copy(update={"adjustment": None}) if wide else history


def _by_block(sums: BlockSums, history: LossHistory, margin: float, alpha: float) -> Can:
    if sums.counts.size < FIRST_LOOK:
        return Can(passing=False, failing=False)
    shared = block_intervals(arrays_of(history), sums, margin, alpha).shared
    return Can(passing=bool(shared.high[-1] <= margin), failing=bool(shared.low[-1] > margin))


def _paired(sums: Sums, margin: float, needed: float, alpha: float, effect: float) -> Can:
    n, total, squares = sums
    if n < 2:
        return Can(passing=False, failing=False)
    mean = total / n
    variance = effect * max(squares - n * mean * mean, 0.0) / (n - 1) / n
    half = _SURELY * critical_value(n, alpha, needed) * math.sqrt(variance)
    return Can(passing=n >= needed and mean + half <= margin, failing=mean - half > margin)


def _stratified(look: Look, margin: float, needed: float, alpha: float, effect: float) -> Can:
    """As ``sluice.gates.sequential.stratified_difference``, of all windows at once."""
    n, total, squares, due = (look.strata[:, [column, column + 9]] for column in range(4))
    usable = (n > 1).all(axis=1)
    if not usable.any():
        return Can(passing=False, failing=False)
    enough = float(np.maximum(n, due)[usable].sum()) >= needed
    n, total, squares = n[usable], total[usable], squares[usable]
    means = total / n
    errors = ((squares - total * means) / (n - 1) / n).clip(0).sum(axis=1)
    weights = n.prod(axis=1) / n.sum(axis=1)
    weights /= weights.sum()
    mean = float(weights @ (means[:, 0] - means[:, 1]))
    half = _LEAST * critical_value(float(n.sum()), alpha, 2 * needed) * math.sqrt(effect * float(weights**2 @ errors))
    return Can(passing=enough and mean + half <= margin, failing=mean - half > margin)


_VIEWS: dict[str, Callable[[Look, OnlineRule, OnlineStage, Online], Can]] = {
    "split": _split,
    "parity": _parity,
    "label_coverage": _coverage,
    "error_rate": _errors,
    "refusal_rate": _refusals,
    **dict.fromkeys(LOSS_NAMES, _loss),
    "latency": _latency,
    **{f"latency_p{share}": _quantile for share in (50, 90, 95, 99)},
}
