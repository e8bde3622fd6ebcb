"""
A policy's shadow comparison on a user's own days, drawn again so that the truth is known.

Days are drawn in runs of three on average (stationary bootstrap; Politis, Romano 1994), each rollout from days that its
history does not have; or, contiguous, a rollout is the days that really followed. The judged difference is shifted so
that its mean over the days that a rollout is drawn from is what the truth says. All rules see the same days.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sluice.arrays import Floats, Ints
from sluice.errors import BadInput
from sluice.evaluation.day_runs import days_in_runs
from sluice.gates.blocks import (
    MINIMUM_HISTORY,
    BlockHistory,
    BlockSums,
    Bounds,
    block_intervals,
    block_sums,
    history_of,
    plain_intervals,
    shortest_length,
    sums_by_length,
)
from sluice.gates.rule_kind import ARM_N
from sluice.gates.sequential import critical_value
from sluice.simulation.blocks import HISTORY_DAYS
from sluice.simulation.pairs import LabelledPairs
from sluice.simulation.rule_summary import RuleSummary
from sluice.simulation.summary import wilson

TRUTHS = {"equal": 0.0, "half the margin": 0.5, "at the margin": 1.0, "twice the margin": 2.0}
"""How much worse the candidate is, in margins."""
PER_REQUEST, BLOCKS, SHARED = "per request", "blocks", "blocks, adjusted and shared"
RULES = (PER_REQUEST, BLOCKS, SHARED)
MEAN_RUN_DAYS = 3
HORIZON_DAYS = 30
"""Days of which a contiguous rollout's truth is the mean."""
_DAY_HOURS = 24
_SPLITS = 250
_CHUNK = 500


@dataclass(frozen=True)
class ShadowTerms:
    """What a policy's shadow asks of the log loss."""

    margin: float
    alpha: float
    minimum_n: int
    """Labelled pairs before a PASS; counted by request it is narrowest there."""
    minimum_requests: int
    look_hours: float
    soak_hours: float
    maximum_hours: float
    block_hours: float
    """Length of a block; a day has a whole number of them."""
    maturity_hours: float
    """Time after a block's end at which it counts; labels that come later are in none."""
    reserve: float = 0.0
    """Share of the margin that a PASS by blocks leaves free."""

    @property
    def looks(self) -> int:
        """Looks until time is out."""
        return int(self.maximum_hours / self.look_hours + 1e-9)

    @property
    def days(self) -> int:
        """Days that a rollout touches."""
        return int(np.ceil(self.looks * self.look_hours / _DAY_HOURS - 1e-9))

    def look_of_block(self, number: Ints) -> Ints:
        """The look, from 1, at which the block of this number, from 1, first counts."""
        hours = self.block_hours * number + self.maturity_hours
        return np.asarray(np.ceil(hours / self.look_hours - 1e-9), dtype=np.int64)

    @property
    def blocks_a_day(self) -> int:
        """Blocks in which a day is cut."""
        return round(_DAY_HOURS / self.block_hours)

    def blocks_of(self, days: Ints) -> Ints:
        """The blocks of days, (..., K) to (..., K · blocks a day)."""
        a_day = self.blocks_a_day
        return (days[..., None] * a_day + np.arange(a_day)).reshape(*days.shape[:-1], -1)

    @property
    def blocks(self) -> int:
        """Blocks that count in time."""
        every = np.arange(1, self.days * self.blocks_a_day + 1)
        return int((self.look_of_block(every) <= self.looks).sum())


@dataclass(frozen=True, eq=False)
class DayTable:
    """
    LabelledPairs as a rollout meets them, by day.

    Attributes:
        whole: (D,) all pairs of each day: what is true of it.
        blocks: (D · blocks a day,) those whose labels are in when their block counts.
        looks: (D, L, 4) by look after the day's beginning: labels that came in, the sum of their differences and of
            its squares, and requests.
    """

    whole: BlockSums
    blocks: BlockSums
    looks: Floats


class Draws(NamedTuple):
    """
    Days of R rollouts.

    Attributes:
        history: (R, H) days.
        days: (R, K) days of the rollout.
        truth: (R, T) days whose mean is the truth.
    """

    history: Ints
    days: Ints
    truth: Ints


def day_table(pairs: LabelledPairs, terms: ShadowTerms) -> DayTable:
    """Sum the pairs by day and by look."""
    whole = block_sums(pairs.day, pairs.difference, pairs.covariates, pairs.days)
    part = (pairs.event_hours // terms.block_hours).astype(np.int64)
    due = pairs.label_hours <= (part + 1) * terms.block_hours + terms.maturity_hours
    covariates = {name: values[due] for name, values in pairs.covariates.items()}
    place = (pairs.day * terms.blocks_a_day + part)[due]
    blocks = block_sums(place, pairs.difference[due], covariates, pairs.days * terms.blocks_a_day)
    label_look, event_look = (
        np.ceil(hours / terms.look_hours - 1e-9).astype(np.int64).clip(1) - 1
        for hours in (pairs.label_hours, pairs.event_hours)
    )
    ones, difference = np.ones(pairs.day.size), pairs.difference
    columns = ((label_look, ones), (label_look, difference), (label_look, difference**2), (event_look, ones))
    looks = np.zeros((pairs.days, terms.looks, len(columns)))
    for column, (when, values) in enumerate(columns):
        sequence = when < terms.looks
        cell = pairs.day[sequence] * terms.looks + when[sequence]
        sums = np.bincount(cell, values[sequence], minlength=pairs.days * terms.looks)
        looks[..., column] = sums.reshape(pairs.days, terms.looks)
    last = int(np.flatnonzero(looks.any(axis=(0, 2))).max(initial=0)) + 1
    return DayTable(whole, blocks, looks[:, :last])


def resampled_draws(days: int, terms: ShadowTerms, rollouts: int, seed: int) -> Draws:
    """
    Runs of days go to history or to the replay by chance, in ``_SPLITS`` ways; a rollout's are drawn from the replay's.

    Raises:
        BadInput: too few days.
    """
    size = min(HISTORY_DAYS, days // 2)
    _require_days(days, size, 2 * MINIMUM_HISTORY)
    rng = np.random.default_rng(seed)
    run = (np.arange(days) + rng.integers(MEAN_RUN_DAYS, size=(min(_SPLITS, rollouts), 1))) // MEAN_RUN_DAYS
    place = np.take_along_axis(rng.random((len(run), int(run.max()) + 1)), run, axis=1).argsort(axis=1, kind="stable")
    mine = np.arange(rollouts) % len(run)
    history, others = np.sort(place[:, :size])[mine], np.sort(place[:, size:])[mine]
    places = days_in_runs(rng, others.shape[1], MEAN_RUN_DAYS, (rollouts, terms.days))
    return Draws(history, np.take_along_axis(others, places, 1), others)


def contiguous_draws(days: int, terms: ShadowTerms) -> Draws:
    """
    Every start: history is the days before it, the rollout the days after it, the truth the mean of the next 30.

    Raises:
        BadInput: too few days.
    """
    horizon = max(HORIZON_DAYS, terms.days)
    size = min(HISTORY_DAYS, days - horizon)
    _require_days(days, size, MINIMUM_HISTORY + horizon)
    start = np.arange(size, days - horizon + 1)[:, None]
    ahead = start + np.arange(horizon)
    return Draws(start - size + np.arange(size), ahead[:, : terms.days], ahead)


def _require_days(days: int, history: int, needed: int) -> None:
    if history < MINIMUM_HISTORY:
        raise BadInput("--replay", f"has {days} days, and {needed} are needed", "give more days, or fewer --hours")


def replay(table: DayTable, terms: ShadowTerms, draws: Draws) -> tuple[RuleSummary, ...]:
    """Play every rule under every truth on the same days; in the order of ``TRUTHS``, and in each of ``RULES``."""
    parts = [_play(table, terms, part) for part in _chunks(draws)]
    return tuple(
        _summary(rule, truth, terms, _concatenated([part[truth, rule] for part in parts]))
        for truth in TRUTHS
        for rule in RULES
    )


def influence_spread(table: DayTable) -> float:
    """Standard deviation of a day's influence: the unit of ``--margin-sd``."""
    sums = table.whole
    centred = sums.judged - sums.judged.sum() / sums.counts.sum() * sums.counts
    return float(np.std(centred / sums.counts.mean(), ddof=1))


def shortest_block(pairs: LabelledPairs) -> float | None:
    """Of ``LENGTHS_HOURS``, the shortest block that depends little on its neighbours in all of these days."""
    return shortest_length(lengths_of(pairs))


def lengths_of(pairs: LabelledPairs) -> dict[float, BlockSums]:
    """All days in blocks of each length, as ``sums_by_length``."""
    hours = pairs.day * _DAY_HOURS + pairs.event_hours
    return sums_by_length(hours, pairs.days * _DAY_HOURS, pairs.difference, pairs.covariates)


class IntervalSequence(NamedTuple):
    """Intervals, (R, K) or of one rollout (K,), and the look at which each is seen, (K,)."""

    bounds: Bounds
    looks: Ints


class _Ends(NamedTuple):
    """Of each rollout, (R,): PASS 1, FAIL -1, neither 0; the look at which it ended; requests until then."""

    verdict: Ints
    look: Ints
    requests: Floats
    missed: NDArray[np.bool_]


def _chunks(draws: Draws) -> Iterator[Draws]:
    for first in range(0, len(draws.days), _CHUNK):
        yield Draws(*(part[first : first + _CHUNK] for part in draws))


def _concatenated(parts: list[_Ends]) -> _Ends:
    return _Ends(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def _play(table: DayTable, terms: ShadowTerms, draws: Draws) -> dict[tuple[str, str], _Ends]:
    arrived = _by_look(table, terms, draws.days)
    ends: dict[tuple[str, str], _Ends] = {}
    for truth, rule, sequence in _sequences(table, terms, draws, arrived, tuple(TRUTHS)):
        reserve = 0.0 if rule == PER_REQUEST else terms.reserve
        ends[truth, rule] = _ends(sequence, TRUTHS[truth] * terms.margin, arrived, terms, reserve=reserve)
    return ends


def true_differences(table: DayTable, draws: Draws) -> Floats:
    """(R,) mean difference over the days that say what is true of each rollout."""
    sums = table.whole
    return np.asarray(sums.judged[draws.truth].sum(axis=1) / sums.counts[draws.truth].sum(axis=1))


def _sequences(
    table: DayTable, terms: ShadowTerms, draws: Draws, arrived: Floats, truths: tuple[str, ...]
) -> Iterator[tuple[str, str, IntervalSequence]]:
    truth = true_differences(table, draws)
    critical = _critical_values(arrived[..., 0], terms)
    histories = _histories(table, terms, draws)
    every = np.arange(1, terms.looks + 1)
    for name in truths:
        shift = TRUTHS[name] * terms.margin - truth
        yield name, PER_REQUEST, IntervalSequence(_per_request(arrived, critical, shift), every)
        plain, shared = _by_block(table, terms, draws, shift, histories)
        looks = terms.look_of_block(np.arange(1, plain.low.shape[1] + 1))
        yield name, BLOCKS, IntervalSequence(plain, looks)
        yield name, SHARED, IntervalSequence(shared, looks)


def misled(table: DayTable, terms: ShadowTerms, draws: Draws) -> dict[str, IntervalSequence] | None:
    """
    The intervals, by rule, of the first rollout that requests counted one by one promote at the margin; none of none.
    """
    part = next(_chunks(draws))
    arrived = _by_look(table, terms, part.days)
    by_rule = {rule: one for _, rule, one in _sequences(table, terms, part, arrived, ("at the margin",))}
    promoted = _ends(by_rule[PER_REQUEST], terms.margin, arrived, terms).verdict == 1
    if not promoted.any():
        return None
    first = int(promoted.argmax())
    return {
        rule: IntervalSequence(Bounds(*(ends[first] for ends in one.bounds)), one.looks)
        for rule, one in by_rule.items()
    }


def _by_look(table: DayTable, terms: ShadowTerms, days: Ints) -> Floats:
    """Sums of what is in at each look, (R, L, 4)."""
    a_day = round(_DAY_HOURS / terms.look_hours)
    total = np.zeros((len(days), terms.looks, table.looks.shape[2]))
    for place in range(days.shape[1]):
        first = place * a_day
        width = min(table.looks.shape[1], terms.looks - first)
        total[:, first : first + width] += table.looks[days[:, place], :width]
    return total.cumsum(axis=1)


def _per_request(arrived: Floats, critical: Floats, shift: Floats) -> Bounds:
    """The shadow's sequence as the gate has it: every labelled pair is an observation of its own."""
    n, raw, squares, by = arrived[..., 0], arrived[..., 1], arrived[..., 2], shift[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(n >= ARM_N, raw / n + by, np.nan)
        variance = np.maximum(squares - raw**2 / n, 0) / (n - 1)
        half = critical * np.sqrt(variance / n)
    return Bounds(mean, mean - half, mean + half)


def _critical_values(n: Floats, terms: ShadowTerms) -> Floats:
    distinct, place = np.unique(n, return_inverse=True)
    values = [critical_value(one, terms.alpha, terms.minimum_n) if one else np.nan for one in distinct]
    return np.array(values)[place].reshape(n.shape)


def _histories(table: DayTable, terms: ShadowTerms, draws: Draws) -> tuple[list[BlockHistory | None], Ints]:
    """What each distinct history says, and which is each rollout's, (R,)."""
    distinct, mine = np.unique(draws.history, axis=0, return_inverse=True)
    return [history_of(table.blocks.at(terms.blocks_of(days))) for days in distinct], mine.reshape(-1)


def _by_block(
    table: DayTable, terms: ShadowTerms, draws: Draws, shift: Floats, histories: tuple[list[BlockHistory | None], Ints]
) -> tuple[Bounds, Bounds]:
    """The unadjusted and the shared sequence, (R, blocks that count in time)."""
    shape = (len(draws.days), terms.blocks)
    plain, shared = (Bounds(*(np.full(shape, np.nan) for _ in Bounds._fields)) for _ in range(2))
    for number, history in enumerate(histories[0]):
        if history is None:
            continue
        mine = np.flatnonzero(histories[1] == number)
        sums = table.blocks.at(terms.blocks_of(draws.days[mine])[:, : terms.blocks]).shifted(shift[mine, None])
        intervals = block_intervals(history, sums, terms.margin, terms.alpha)
        alone = plain_intervals(history, sums, terms.margin, terms.alpha)
        for whole, part in ((plain, alone), (shared, intervals.shared)):
            for ends, values in zip(whole, part, strict=True):
                ends[mine] = values
    return plain, shared


def _ends(
    sequence: IntervalSequence, truth: float, arrived: Floats, terms: ShadowTerms, *, reserve: float = 0.0
) -> _Ends:
    """
    The guardrail at each look: PASS when none of the interval is above the margin, FAIL when all of it is.

    Args:
        arrived: (R, L, 4) sums until each look.
        reserve: share of the margin that a PASS leaves free.
    """
    bounds, looks = sequence
    pairs, requests, allowed = arrived[:, looks - 1, 0], arrived[..., 3], (1 - reserve) * terms.margin
    enough = (pairs >= terms.minimum_n) & (requests[:, looks - 1] >= terms.minimum_requests)
    enough &= looks * terms.look_hours >= terms.soak_hours
    passed, failed = (bounds.high <= allowed) & enough, bounds.low > terms.margin
    over = passed | failed
    decided, first = over.any(axis=1), over.argmax(axis=1) if looks.size else np.zeros(len(over), dtype=np.int64)
    rows = np.arange(len(over))
    verdict, look = np.zeros(len(over), dtype=np.int64), np.full(len(over), terms.looks)
    if looks.size:
        verdict = np.where(decided, np.where(failed[rows, first], -1, 1), 0)
        look = np.where(decided, looks[first], terms.looks)
    missed = np.logical_or(bounds.low > truth, bounds.high < truth).any(axis=1)
    return _Ends(verdict, look, requests[rows, look - 1], np.asarray(missed))


def _summary(rule: str, truth: str, terms: ShadowTerms, ends: _Ends) -> RuleSummary:
    promoted, back, neither = (int((ends.verdict == value).sum()) for value in (1, -1, 0))
    return RuleSummary.of(
        rule,
        truth,
        (promoted, back, neither),
        bad=TRUTHS[truth] >= 1,
        days=float(np.median(ends.look)) * terms.look_hours / _DAY_HOURS,
        requests=float(np.median(ends.requests)),
        miscoverage=wilson(int(ends.missed.sum()), len(ends.verdict)),
    )
