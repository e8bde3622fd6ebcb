"""Days that happened, with requests split between two arms by chance: what a canary would have seen of them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from sluice.arrays import Floats, Ints
from sluice.evaluation.day_runs import days_in_runs
from sluice.gates.blocks import (
    BlockHistory,
    BlockSums,
    Bounds,
    block_intervals,
    block_sums,
    history_of,
    plain_intervals,
)
from sluice.targets.probabilities import calibration_covariates, log_losses

HOURS, DAYS = 12, 15


class SplitDays(NamedTuple):
    """Sums of (S, K) splits and blocks; ``paired``: what a shadow would have seen, (K,)."""

    paired: BlockSums
    weight: Floats
    difference: Floats
    sampling: Floats
    covariates: Floats
    stable: Floats
    """(S, K, 3, 3): weight² · covariances of stable's loss and covariates ÷ its requests."""


class Coverage(NamedTuple):
    """Shares of the rollouts that missed the truth at some look; mean width at the last one, unadjusted: 1."""

    missed: float
    missed_unadjusted: float
    width: float


def split_days(path: Path, share: float, splits: int = 30, seed: int = 0) -> SplitDays:
    """
    Args:
        path: of pairs with scores.
        share: of the requests, that the candidate answers.
    """
    pairs = pl.read_parquet(path).sort("event_time")
    hours = pairs["event_time"].dt.epoch("us").to_numpy() / 3.6e9
    block = ((hours - 24 * np.floor(hours.min() / 24)) // HOURS).astype(np.int64)
    size = 2 * int((block.max() + 1) // 2)
    label = pairs["label"].to_numpy().astype(np.int64)
    ours, theirs = (log_losses(label, pairs[f"{side}_score"].to_numpy()) for side in ("candidate", "stable"))
    surprise = calibration_covariates(label.astype(np.float64), pairs["stable_score"].to_numpy())
    keep = block < size
    block, ours = block[keep], ours[keep]
    columns = np.stack([theirs[keep], *(values[keep] for values in surprise.values())])
    paired = block_sums(block, ours - columns[0], dict(zip(surprise, columns[1:], strict=True)), size)
    rng = np.random.default_rng(seed)
    each = [_split(block, ours, columns, rng.random(block.size) < share, size) for _ in range(splits)]
    return SplitDays(paired, *(np.stack(parts) for parts in zip(*each, strict=True)))


def _split(block: Ints, ours: Floats, columns: Floats, mine: Ints, size: int) -> tuple[Floats, ...]:
    n, total, squares = (np.bincount(block[mine], values, size) for values in (None, ours[mine], ours[mine] ** 2))
    stable = columns[:, ~mine]
    m = np.bincount(block[~mine], minlength=size).astype(np.float64)
    sums = np.stack([np.bincount(block[~mine], values, size) for values in stable])
    products = [[np.bincount(block[~mine], a * b, size) for a in stable] for b in stable]
    usable = (n > 1) & (m > 1)
    n, m = np.where(usable, n, 2), np.where(usable, m, 2)
    weight = np.where(usable, n * m / (n + m), 0.0)
    means = sums / m
    covariances = (np.array(products) / m - means[:, None] * means[None]) / (m - 1)
    variance = (squares / n - (total / n) ** 2).clip(0) / (n - 1)
    sampling = weight**2 * (variance + covariances[0, 0])
    common = (weight**2 * covariances).transpose(2, 0, 1)
    return weight, weight * (total / n - means[0]), sampling, (weight * means[1:]).T, common


def coverage(days: SplitDays, margin: float, alpha: float, rollouts: int, seed: int = 1) -> Coverage:
    """Rollouts of ``DAYS`` days drawn again in runs of three, at the margin; history has the other days."""
    rng, number = np.random.default_rng(seed), days.paired.counts.size // 2
    missed, plain, widths = [], [], []
    for _ in range(rollouts):
        runs = rng.permutation(-(-number // 3))
        order = (3 * runs[:, None] + np.arange(3)).ravel()
        order = order[order < number]
        past, others = np.sort(order[: number // 2]), np.sort(order[number // 2 :])
        drawn = others[days_in_runs(rng, others.size, 3, (1, DAYS))[0]]
        truth = _blocks(others)
        shift = margin - days.paired.judged[truth].sum() / days.paired.counts[truth].sum()
        history = history_of(days.paired.at(_blocks(past)))
        assert history is not None
        sums = _sums(days, history, int(rng.integers(len(days.weight))), _blocks(drawn), shift)
        shared = block_intervals(history, sums, margin, alpha).shared
        alone = plain_intervals(history, sums, margin, alpha)
        missed.append(_misses(shared, margin))
        plain.append(_misses(alone, margin))
        widths.append(_width(shared) / _width(alone))
    return Coverage(float(np.mean(missed)), float(np.mean(plain)), float(np.mean(widths)))


def _misses(bounds: Bounds, truth: float) -> bool:
    return bool(((bounds.low > truth) | (bounds.high < truth)).any())


def _width(bounds: Bounds) -> float:
    return float(bounds.high[-1] - bounds.low[-1])


def _blocks(days: Ints) -> Ints:
    return (2 * days[:, None] + np.arange(2)).ravel()


def _sums(days: SplitDays, history: BlockHistory, split: int, drawn: Ints, shift: float) -> BlockSums:
    adjustment = history.adjustment
    known = dict(zip(adjustment.names, adjustment.slopes, strict=True)) if adjustment else {}
    slopes = np.array([1.0, *(known.get(name, 0.0) for name in days.paired.names)])
    common = days.stable[split, drawn]
    adjusted = days.sampling[split, drawn] - common[:, 0, 0] + np.einsum("i,kij,j->k", slopes, common, slopes)
    return BlockSums(
        counts=days.weight[split, drawn],
        judged=days.difference[split, drawn] + shift * days.weight[split, drawn],
        covariates=days.covariates[split, drawn],
        names=days.paired.names,
        sampling=days.sampling[split, drawn],
        adjusted_sampling=adjusted,
    )
