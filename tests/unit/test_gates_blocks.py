"""Intervals over blocks keep their word with few blocks, dependent ones and heavy tails; unsound ones say nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sluice.arrays import Floats
from sluice.documents.verdict import Verdict
from sluice.gates.blocks import (
    FIRST_LOOK,
    MINIMUM_HISTORY,
    BlockHistory,
    BlockSums,
    bartlett_lags,
    block_intervals,
    block_sums,
    dependence,
    history_of,
    long_run_variance,
    plain_intervals,
    shortest_length,
)
from sluice.gates.roles import verdict_of
from sluice.gates.sequential import Interval

_ALPHA = 0.02
_MOST = 60


def _autoregressive(rng: np.random.Generator, shape: tuple[int, int], lag_one: float, *, tails: bool) -> Floats:
    """Stationary series (R, K) of variance 1."""
    noise = rng.standard_t(5, shape) * math.sqrt(3 / 5) if tails else rng.normal(size=shape)
    values = noise * math.sqrt(1 - lag_one**2)
    values[:, 0] = noise[:, 0]
    for index in range(1, shape[1]):
        values[:, index] += lag_one * values[:, index - 1]
    return values


def _world(seed: int, rollouts: int, lag_one: float, *, tails: bool = False) -> BlockSums:
    """
    Blocks (R, history + rollout) whose true mean is 0; four fifths of the variance are the covariate's.

    Volume is larger where the covariate is, so a mean of block means would be off.
    """
    rng, shape = np.random.default_rng(seed), (rollouts, 60 + _MOST)
    surprise = _autoregressive(rng, shape, lag_one, tails=tails)
    own = _autoregressive(rng, shape, 0.1, tails=tails)
    counts = np.round(900 * np.exp(0.1 * surprise + 0.1 * rng.normal(size=shape)))
    level = float((counts * surprise).mean() / counts.mean())
    mean = math.sqrt(0.8) * (surprise - level) + math.sqrt(0.2) * own
    return BlockSums(counts, counts * mean, (counts * (surprise - level))[..., None], ("surprise",))


def _one(sums: BlockSums, rollout: int, part: slice) -> BlockSums:
    return BlockSums(sums.counts[rollout, part], sums.judged[rollout, part], sums.covariates[rollout, part], sums.names)


def _history(sums: BlockSums) -> BlockHistory:
    history = history_of(sums)
    assert history is not None
    return history


@pytest.mark.parametrize("lag_one", [0.0, 0.4])
@pytest.mark.parametrize("tails", [False, True])
def test_at_any_look_of_2_to_60_blocks_the_truth_is_missed_seldom(lag_one: float, tails: bool) -> None:
    rollouts = 1500
    world = _world(7, rollouts, lag_one, tails=tails)
    missed = np.zeros((2, _MOST), dtype=np.int64)
    width = np.zeros((2, _MOST))
    for rollout in range(rollouts):
        history = _history(_one(world, rollout, slice(0, 60)))
        blocks = _one(world, rollout, slice(60, None))
        both = plain_intervals(history, blocks, 2.0, _ALPHA), block_intervals(history, blocks, 2.0, _ALPHA).shared
        for row, bounds in enumerate(both):
            missed[row] += np.logical_or.accumulate((bounds.low > 0) | (bounds.high < 0))
            width[row] += bounds.high - bounds.low
    # Three standard errors of a share of alpha among so many rollouts.
    most = rollouts * _ALPHA + 3 * math.sqrt(rollouts * _ALPHA)
    assert missed[:, 1].tolist() == [0, 0]  # two blocks say nothing
    assert missed.max() <= most, missed[:, -1] / rollouts
    assert np.isnan(width[:, : FIRST_LOOK - 1]).all()
    assert (width[1, FIRST_LOOK - 1 : 15] < 0.85 * width[0, FIRST_LOOK - 1 : 15]).all()  # the adjustment is worth it


def test_an_interval_is_what_the_formula_says() -> None:
    rng = np.random.default_rng(3)
    counts, means = rng.integers(50, 150, 40).astype(float), rng.normal(size=(2, 40))
    history = _history(BlockSums(counts, counts * means[0], np.zeros((40, 0)), ()))
    blocks = BlockSums(counts[:10], counts[:10] * (5 + 4 * means[1, :10]), np.zeros((10, 0)), ())
    bounds = plain_intervals(history, blocks, 0.3, _ALPHA)
    rho = (-2 * math.log(_ALPHA) + math.log(1 - 2 * math.log(_ALPHA))) / 6
    assert np.var((blocks.judged - 0.3 * blocks.counts) / counts.mean(), ddof=1) > history.variance
    for k in range(3, 11):
        n, judged = counts[:k], blocks.judged[:k]
        critical = math.sqrt(2 * (k * rho + 1) / (k * rho) * math.log(math.sqrt(k * rho + 1) / _ALPHA))
        own = float(np.var((judged - 0.3 * n) / counts.mean(), ddof=1))
        half = critical * math.sqrt(max(history.variance, own) / k) * k * counts.mean() / n.sum()
        estimate = judged.sum() / n.sum()
        assert bounds.estimate[k - 1] == pytest.approx(estimate)
        assert (bounds.low[k - 1], bounds.high[k - 1]) == pytest.approx((estimate - half, estimate + half))


def test_volume_alone_is_no_variance() -> None:
    """A mean of blocks' sums would vary with their counts; the ratio does not."""
    counts = np.arange(20.0, 60.0)
    assert _history(BlockSums(counts, 2 * counts, np.zeros((40, 0)), ())).variance == pytest.approx(0, abs=1e-20)


def test_a_storm_that_history_never_met_widens_the_interval() -> None:
    world = _world(1, 1, 0.0)
    history, calm = _history(_one(world, 0, slice(0, 60))), _one(world, 0, slice(60, None))
    stormy = BlockSums(calm.counts, calm.judged * 10, calm.covariates, calm.names)
    first, second = (plain_intervals(history, sums, 0.0, _ALPHA) for sums in (calm, stormy))
    assert (second.high - second.low)[-1] > 3 * (first.high - first.low)[-1]


def test_blocks_after_a_look_change_nothing_up_to_it() -> None:
    world = _world(2, 1, 0.3)
    history, blocks = _history(_one(world, 0, slice(0, 60))), _one(world, 0, slice(60, None))
    whole = block_intervals(history, blocks, 1.0, _ALPHA).shared
    part = block_intervals(history, _one(world, 0, slice(60, 72)), 1.0, _ALPHA).shared
    same = [np.array_equal(mine[:12], theirs, equal_nan=True) for mine, theirs in zip(whole, part, strict=True)]
    assert same == [True] * len(whole._fields)


def test_where_the_two_do_not_meet_the_unadjusted_stands_alone() -> None:
    """Every block surprises stable by far more than history's did, and the judged difference does not follow."""
    world = _world(4, 1, 0.0)
    history, blocks = _history(_one(world, 0, slice(0, 60))), _one(world, 0, slice(60, None))
    moved = BlockSums(blocks.counts, blocks.judged, blocks.covariates + 8 * blocks.counts[:, None], blocks.names)
    together, apart = (block_intervals(history, sums, 1.0, _ALPHA) for sums in (blocks, moved))
    assert not together.apart.any()
    assert apart.apart[FIRST_LOOK - 1 :].all()
    for shared, unadjusted in zip(apart.shared, apart.unadjusted, strict=True):
        assert np.array_equal(shared, unadjusted, equal_nan=True)
    assert apart.adjusted is not None
    assert (apart.adjusted.high < apart.unadjusted.low)[FIRST_LOOK - 1 :].all()


def test_the_level_of_a_covariate_changes_nothing() -> None:
    world = _world(12, 1, 0.0)
    raised = BlockSums(world.counts, world.judged, world.covariates + 5 * world.counts[..., None], world.names)
    first, second = (
        block_intervals(_history(_one(sums, 0, slice(0, 60))), _one(sums, 0, slice(60, None)), 1.0, _ALPHA)
        for sums in (world, raised)
    )
    assert not second.apart.any()
    assert np.allclose(first.shared.high, second.shared.high, equal_nan=True)


def test_half_of_alpha_each_and_all_of_it_where_nothing_is_adjusted() -> None:
    world = _world(5, 1, 0.0)
    past, blocks = _one(world, 0, slice(0, 60)), _one(world, 0, slice(60, None))
    history = _history(past)
    halved = plain_intervals(history, blocks, 1.0, _ALPHA / 2)
    assert np.array_equal(block_intervals(history, blocks, 1.0, _ALPHA).unadjusted.low, halved.low, equal_nan=True)
    bare = BlockSums(blocks.counts, blocks.judged, np.zeros((_MOST, 0)), ())
    without = block_intervals(history, bare, 1.0, _ALPHA)
    assert without.adjusted is None
    assert np.array_equal(without.shared.low, plain_intervals(history, bare, 1.0, _ALPHA).low, equal_nan=True)


def test_what_history_lacks_is_left_out_and_named() -> None:
    world = _world(6, 1, 0.0)
    past, blocks = _one(world, 0, slice(0, 60)), _one(world, 0, slice(60, None))
    flat = BlockSums(past.counts, past.judged, np.c_[past.covariates, 3 * past.counts], ("surprise", "constant"))
    history = _history(flat)
    assert history.left_out == ("constant",)
    assert history.adjustment is not None
    assert history.adjustment.names == ("surprise",)
    more = BlockSums(blocks.counts, blocks.judged, np.c_[blocks.counts, blocks.covariates], ("new", "surprise"))
    intervals = block_intervals(history, more, 1.0, _ALPHA)
    assert intervals.left_out == ("new",)
    alone = block_intervals(history, blocks, 1.0, _ALPHA)
    assert np.array_equal(intervals.shared.high, alone.shared.high, equal_nan=True)


def test_covariates_that_are_too_many_for_history_are_left_out() -> None:
    """With as many slopes as blocks everything would be explained, and nothing known."""
    past = _one(_world(13, 1, 0.0), 0, slice(0, 30))
    names = tuple(f"c{number}" for number in range(40))
    noise = np.random.default_rng(14).normal(size=(30, 40))
    history = _history(BlockSums(past.counts, past.judged, noise, names))
    assert history.adjustment is not None
    assert history.adjustment.names == names[:4]
    assert history.left_out == names[4:]
    assert history.adjustment.variance > 0.2 * history.variance


@pytest.mark.parametrize("unsound", ["few", "nan", "empty", "negative"])
def test_a_history_that_says_nothing_is_none(unsound: str) -> None:
    past = _one(_world(8, 1, 0.0), 0, slice(0, MINIMUM_HISTORY - 1 if unsound == "few" else MINIMUM_HISTORY))
    if unsound == "nan":
        past.judged[3] = math.nan
    if unsound == "empty":
        past.counts[:] = 0
    if unsound == "negative":
        past.counts[3] = -1
    assert history_of(past) is None
    assert history_of(_one(_world(8, 1, 0.0), 0, slice(0, MINIMUM_HISTORY))) is not None


@pytest.mark.parametrize("unsound", ["few", "nan", "infinite", "empty", "negative"])
def test_unsound_blocks_have_no_interval_and_are_inconclusive(unsound: str) -> None:
    world = _world(9, 1, 0.0)
    history = _history(_one(world, 0, slice(0, 60)))
    blocks = _one(world, 0, slice(60, 60 + (FIRST_LOOK - 1 if unsound == "few" else 20)))
    values = {
        "nan": (blocks.judged, math.nan),
        "infinite": (blocks.covariates, math.inf),
        "negative": (blocks.counts, -1),
    }
    if unsound in values:
        array, value = values[unsound]
        array[5] = value
    if unsound == "empty":
        blocks.counts[:] = 0
    shared = block_intervals(history, blocks, 100.0, _ALPHA).shared
    last = Interval(*(float(ends[-1]) for ends in shared))
    assert verdict_of("guardrail", last, 100.0, higher=False) is Verdict.INCONCLUSIVE
    if unsound in values:  # up to the unsound block all is as it was
        before = Interval(*(float(ends[4]) for ends in shared))
        assert verdict_of("guardrail", before, 100.0, higher=False) is Verdict.PASS


def test_long_run_variance_finds_dependence_and_is_never_below_the_sample_variance() -> None:
    rng = np.random.default_rng(10)
    dependent = _autoregressive(rng, (1, 4000), 0.5, tails=False)[0]
    assert long_run_variance(dependent, bartlett_lags(dependent)) == pytest.approx(3.0, rel=0.25)
    swinging = _autoregressive(rng, (1, 400), -0.5, tails=False)[0]
    assert long_run_variance(swinging, 5) == pytest.approx(float(np.var(swinging, ddof=1)))
    assert bartlett_lags(dependent) > bartlett_lags(rng.normal(size=4000))


def test_the_shortest_block_is_as_long_as_what_is_shared() -> None:
    """A shock every eight hours: blocks of one and two hours depend, of eight hours and longer they do not."""
    rng, days = np.random.default_rng(11), 200
    hour = np.repeat(np.arange(days * 24), 20)
    judged = np.repeat(rng.normal(size=days * 3), 8)[hour] + 0.2 * rng.normal(size=hour.size)
    lengths = {float(h): block_sums(hour // h, judged, {}, days * 24 // h) for h in (1, 2, 8, 24)}
    assert dependence(lengths[1]) > 1
    assert shortest_length(lengths) == 8
    walk = np.repeat(_autoregressive(rng, (1, days), 0.95, tails=False)[0], 24)[hour]
    assert shortest_length({24.0: block_sums(hour // 24, walk, {}, days)}) is None
    assert math.isnan(dependence(block_sums(np.arange(5), np.ones(5), {}, 5)))
