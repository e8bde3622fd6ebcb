"""Losses of simulated requests by block of event time, and the history that their candidate was proposed with."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sluice.arrays import Floats
from sluice.documents.evidence import LossBlock
from sluice.documents.loss_history import LossAdjustment, LossHistory
from sluice.errors import BadInput
from sluice.evidence.measurements.blocks import product_names, product_places
from sluice.gates.block_length import DAY_HOURS, BlockLength, length_of_history
from sluice.gates.blocks import LENGTHS_HOURS, BlockHistory, BlockSums, shortest_length, sums_by_length
from sluice.gates.loss_history import ArmLosses, block_history, loss_history
from sluice.gates.online_policy import Online
from sluice.simulation.counting import unchecked
from sluice.simulation.traffic import SimulatedTraffic
from sluice.simulation.watch import Glance
from sluice.simulation.worlds import TrafficScale, World
from sluice.targets.registry import BINARY

COVARIATES = BINARY.covariate_names
"""Of the simulated population."""
PLACES, PRODUCTS = product_places(len(COVARIATES)), product_names(COVARIATES)
HISTORY_DAYS = 60
"""Of the candidate's evaluation; of a replay at most half of all days."""
_HISTORIES = 16
"""Candidates of one world were evaluated on so many different pasts."""
_PAST = 1 << 30
"""Numbers of rollouts from which on requests are history's."""


class BlockTable(NamedTuple):
    """
    Blocks in order, arrays of shape (K,), covariates (K, 2); fields as of ``LossBlock``.

    ``number``: 0 for the stage's first block, below 0 for those of earlier stages.
    """

    number: NDArray[np.int64]
    requests: Floats
    labelled: Floats
    weight: Floats
    difference: Floats
    sampling: Floats
    shift: Floats
    same: Floats
    covariates: Floats
    products: Floats
    """(K, 5), in the order of ``PRODUCTS``."""

    def countable(self, until: int, adjustment: LossAdjustment | None) -> BlockSums:
        """Those before block ``until`` that may be judged, as ``sluice.gates.loss_blocks.countable`` has them."""
        first = int(self.number.size > 0 and self.number[0] < 0)
        fit = first + np.flatnonzero((self.number[first:] < until) & (self.weight[first:] > 0))
        paired = not self.sampling.any()
        return BlockSums(
            counts=self.weight[fit],
            judged=self.difference[fit],
            covariates=self.covariates[fit],
            names=COVARIATES,
            sampling=None if paired else self.sampling[fit],
            adjusted_sampling=None if paired or adjustment is None else self._adjusted(adjustment)[fit],
        )

    def _adjusted(self, adjustment: LossAdjustment) -> Floats:
        slopes = dict(zip(adjustment.names, adjustment.slopes, strict=True))
        first, second = (slopes.get(name, 0.0) for name in COVARIATES)
        more = self.products @ np.array([2 * first, 2 * second, first**2, 2 * first * second, second**2])
        return np.asarray((self.sampling + more).clip(0))


class LossBlocks(NamedTuple):
    """How a rollout's losses are put in blocks, and what was known of such blocks before."""

    windows: int
    """Windows between two looks in a block."""
    history: LossHistory | None
    length: BlockLength | None = None
    """Where the policy names none."""

    @classmethod
    def of(cls, traffic: SimulatedTraffic, online: Online, stable: str) -> LossBlocks:
        """As a policy wants them."""
        history, look_hours = history_for(traffic, online, stable), traffic.scale.look_hours
        hours = online.block_hours or (history.hours if history else DAY_HOURS)
        length = BlockLength(hours, "as the history has it") if online.block_hours is None else None
        return cls(windows_a_block(hours, look_hours), history, length)


def windows_a_block(policy_hours: float, look_hours: float) -> int:
    """
    Windows between two looks in a block.

    Raises:
        BadInput: a block is not so many whole windows.
    """
    windows = round(policy_hours / look_hours)
    if windows < 1 or abs(windows * look_hours - policy_hours) > 1e-9:
        rule = f"is {policy_hours:g}, and is played only as a multiple of the {look_hours:g} hours between two looks"
        raise BadInput("block_hours", rule, "choose --look-every so that blocks are whole")
    return windows


def block_table(glance: Glance, first: int, a_block: int, *, mirrored: bool) -> BlockTable:
    """
    The cohort's blocks as a look knows them.

    Args:
        first: number of the stage's first window.
        a_block: windows a block.
    """
    windows = [number for part in glance.cohort for number in part.numbers]
    fixed = np.concatenate([part.fixed for part in glance.cohort])
    columns = _paired(glance.strata, fixed) if mirrored else _of_arms(glance.strata, fixed)
    place = (np.array(windows, dtype=np.int64) - first) // a_block
    numbers, place = np.unique(place, return_inverse=True)
    sums = np.zeros((numbers.size, columns.shape[1]))
    np.add.at(sums, place, columns)
    some = sums[:, 0] > 0
    requests, labelled, weight, difference, sampling, shift, same = sums[some, :7].T
    surprise, products = sums[some, 7:9], sums[some, 9:]
    return BlockTable(numbers[some], requests, labelled, weight, difference, sampling, shift, same, surprise, products)


def _paired(changing: Floats, fixed: Floats) -> Floats:
    labelled, difference = changing[:, 18], changing[:, 19]
    none = np.zeros(len(labelled))
    scores = fixed[:, [13, 15]]
    return np.column_stack([fixed[:, 12], labelled, labelled, difference, none, scores, changing[:, 21:]])


def _of_arms(changing: Floats, fixed: Floats) -> Floats:
    """As ``sluice.evidence.measurements.blocks``, of all windows at once."""
    n, total, squares = (changing[:, [column, column + 9]] for column in range(3))
    usable = np.asarray((n > 1).all(axis=1))
    n, total, squares = (np.where(usable[:, None], values, 2.0) for values in (n, total, squares))
    means = total / n
    errors = ((squares - total * means).clip(0) / (n - 1) / n).sum(axis=1)
    weight = np.where(usable, n.prod(axis=1) / n.sum(axis=1), 0.0)
    requests = fixed[:, 0] - fixed[:, 1] + fixed[:, 6] - fixed[:, 7] - fixed[:, 19] - fixed[:, 21]
    labelled = np.where(usable, n.sum(axis=1), 0.0)
    columns = [requests, labelled, weight, weight * (means[:, 0] - means[:, 1]), weight**2 * errors]
    surprise = changing[:, 21:23] / n[:, 1:]
    means = np.column_stack([means[:, 1], surprise])  # of stable's loss and covariates
    common = (changing[:, 23:] / n[:, 1:] - (means[:, PLACES[0]] * means[:, PLACES[1]])) / (n[:, 1:] - 1)
    return np.column_stack(
        [*columns, np.zeros((len(weight), 2)), weight[:, None] * surprise, weight[:, None] ** 2 * common]
    )


def documents_of(table: BlockTable, starts: list[str], *, mirrored: bool) -> tuple[LossBlock, ...]:
    """The table as evidence writes it; ``starts`` of its blocks."""
    rows = zip(starts, *(column.tolist() for column in table[1:]), strict=True)
    return tuple(
        unchecked(
            LossBlock,
            start=start,
            requests=int(requests),
            labelled=int(labelled),
            weight=weight,
            difference=difference,
            sampling=sampling,
            shift=shift if mirrored else None,
            same=int(same) if mirrored else None,
            covariates=dict(zip(COVARIATES, covariates, strict=True)),
            products={} if mirrored else dict(zip(PRODUCTS, products, strict=True)),
        )
        for start, requests, labelled, weight, difference, sampling, shift, same, covariates, products in rows
    )


def history_for(traffic: SimulatedTraffic, online: Online, stable: str) -> LossHistory | None:
    """
    What the candidate's evaluation would say; ``None`` where the policy states a design effect: that is played then.

    Evaluations are of other days of the same world, ``HISTORY_DAYS`` of them. Where the policy names no length, it is
    the shortest that will do of those that are whole windows.
    """
    if online.design_effect is not None:
        return None
    number = traffic.rollout % _HISTORIES
    return _history(traffic.world, traffic.scale, traffic.seed, number, online.block_hours, stable)


def arrays_of(history: LossHistory) -> BlockHistory:
    """The history as intervals take it; kept, since every look asks."""
    return _arrays(history)


@lru_cache(maxsize=64)
def _arrays(history: LossHistory) -> BlockHistory:
    return block_history(history)


@lru_cache(maxsize=512)
def _history(
    world: World, scale: TrafficScale, seed: int, number: int, hours: float | None, stable: str
) -> LossHistory | None:
    past, end = SimulatedTraffic(world, scale, seed, _PAST + number), 24 * HISTORY_DAYS
    requests = past.span(0, round(end / scale.look_hours))
    people = past.population(shadow=True)
    ours, theirs = (
        requests.candidate_fails | requests.candidate_refuses,
        requests.stable_fails | requests.stable_refuses,
    )
    both = ~ours & ~theirs & np.isfinite(requests.label_at)
    row, at = requests.row[both], requests.at[both]
    covariates = {name: values[row] for name, values in people.covariates.items()}
    losses = people.candidate_losses[row] + past.shift(requests.window[both])
    each = ArmLosses(losses, people.stable_losses[row], covariates)
    difference = each.candidate - each.stable
    variance = float(difference.var())
    tried = (hours,) if hours else tuple(one for one in LENGTHS_HOURS if (one / scale.look_hours) % 1 == 0)
    lengths = sums_by_length(at, end, difference, covariates, tried)
    documents = (loss_history(sums, length, variance, stable, None, each) for length, sums in lengths.items())
    histories = {document.hours: document for document in documents if document}
    if not histories:
        return None
    return histories[length_of_history(list(histories.values()), shortest_length(lengths)).hours]
