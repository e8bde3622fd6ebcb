"""
Requests counted window by window, as every look knows them.

What a look knows of a window depends on how many looks ago the window began: labels have come, requests are due for
one. So a block is counted once for all such delays, and a look only picks a row of each window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from pydantic import BaseModel

from sluice.arrays import Floats
from sluice.documents.evidence import LATENCY_BOUNDS_MS, Moments
from sluice.evidence.minutes import COLUMNS, TEN, minute_columns
from sluice.simulation.population import SLICES, Population
from sluice.simulation.traffic import BLOCK, Flags, Requests, SimulatedTraffic, Whole

_THRESHOLD = 0.5
"""Where both models decide."""
_BINS = len(LATENCY_BOUNDS_MS) + 1


UncheckedDocument = TypeVar("UncheckedDocument", bound=BaseModel)


def unchecked(document: type[UncheckedDocument], /, **values: object) -> UncheckedDocument:
    """
    A document of all its fields, taken as they are: three to five times as fast as pydantic's own ways.

    Thousands of them are made a second. A test reads them back from JSON, strictly, and must find the same.
    """
    instance = document.__new__(document)
    for name, value in (("__dict__", values), ("__pydantic_fields_set__", document.__pydantic_fields__.keys())):
        object.__setattr__(instance, name, value)
    object.__setattr__(instance, "__pydantic_extra__", None)
    object.__setattr__(instance, "__pydantic_private__", None)
    return instance


class Sums(NamedTuple):
    """n, sum and sum of squares: they add up over windows."""

    n: float = 0
    total: float = 0.0
    squares: float = 0.0

    def moments(self) -> Moments | None:
        """n, mean and sample variance; ``None`` of nothing."""
        return self.known() if self.n else None

    def known(self) -> Moments:
        """As ``moments``, of something."""
        n, total, squares = self
        mean = total / n
        variance = max(squares - n * mean * mean, 0.0) / (n - 1) if n > 1 else 0.0
        return unchecked(Moments, n=int(n), mean=mean, variance=variance)


class Side(NamedTuple):
    """One arm; all counts are whole numbers."""

    n: float = 0
    errors: float = 0
    stale: float = 0
    milliseconds: Sums = Sums()
    loss: Sums = Sums()
    due: float = 0
    labelled: float = 0
    expected: Sums = Sums()
    """Expected losses of those that are due (``Imputed``)."""
    rectifier: Sums = Sums()
    """Loss minus expected loss of those labelled."""
    refused: float = 0
    refused_alone: float = 0

    @property
    def asked(self) -> float:
        """As ``Arm.asked``."""
        return self.n - self.refused + self.refused_alone


class Tally(NamedTuple):
    """A window, or several together, as one look sees them."""

    candidate: Side
    stable: Side
    pair_loss: Sums = Sums()
    pair_shift: Sums = Sums()
    agreed: float = 0
    pair_milliseconds: Sums = Sums()


STILL = 23
"""Columns of ``BlockCounts.fixed`` before those of minutes."""
_CHANGING, _FIXED = 9, 6
"""Columns of one arm that change with the delay, and that do not."""


def tally_of(changing: list[float], fixed: list[float]) -> Tally:
    """Of one row, or of the sum of several, of ``BlockCounts``."""
    sides = []
    for at, still, refusals in ((0, 0, fixed[19:21]), (_CHANGING, _FIXED, fixed[21:23])):
        n, total, squares, due, labelled, *expected = changing[at : at + _CHANGING]
        loss = Sums(n, total, squares)
        pairs = Sums(due, *expected[:2]), Sums(labelled, *expected[2:])
        count, errors, stale, *times = fixed[still : still + _FIXED]
        sides.append(Side(count, errors, stale, Sums(*times), loss, due, labelled, *pairs, *refusals))
    shift, agreed, milliseconds = Sums(*fixed[12:15]), fixed[15], Sums(*fixed[16:19])
    return Tally(sides[0], sides[1], Sums(*changing[18:21]), shift, agreed, milliseconds)


class Road(NamedTuple):
    """Where the requests of a stage go."""

    shadow: bool
    share: float
    """Of the requests that truly reaches the candidate."""


class BlockCounts(NamedTuple):
    """
    The windows of one block on one road.

    ``changing``: (BLOCK, delays, 28), row d as a look knows it d windows after the window began; expected losses are
    left out in shadow. The last seven are sums of stable's covariates (of pairs in shadow, else of what stable
    answered) and, 0 in shadow, of the products loss · covariate and covariate · covariate. ``fixed``: (BLOCK,
    ``STILL`` + those of ``sluice.evidence.minutes``). ``bins``: (BLOCK, 2, bins), latencies of both arms. ``slices``:
    (BLOCK, delays, SLICES, 6), sums of the losses of candidate and stable, or of pairs and nothing. ``shares``:
    (BLOCK, SLICES, 4), requests and errors of each arm. The last three are empty where the policy does not ask.
    """

    changing: Floats
    fixed: Floats
    bins: Floats
    slices: Floats
    shares: Floats


class LabelTimes(NamedTuple):
    """A block's requests by window and delay: arrays of shape (n,) of positions in (BLOCK · delays)."""

    window: Whole
    known: Whole
    due: Whole
    both: Whole
    delays: int
    first: int
    """Number of the block's first window."""


def label_times(traffic: SimulatedTraffic, block: int, maturity: float) -> LabelTimes:
    """At which delay labels are in and due (``maturity`` hours); a label that never comes has the last delay."""
    requests, hours = traffic.block(block), traffic.scale.look_hours
    window = requests.window - block * BLOCK
    late = np.ceil(requests.label_at / hours) - requests.window
    comes = np.isfinite(late)
    due = np.ceil((requests.at + maturity) / hours).astype(np.int64) - requests.window
    delays = int(max(late[comes].max(initial=1), due.max(initial=1))) + 2
    known = np.where(comes, late, delays - 1).astype(np.int64)
    at = window * delays
    return LabelTimes(window, at + known, at + due, at + np.maximum(known, due), delays, block * BLOCK)


class _ArmRequests(NamedTuple):
    """What one side did with a block's requests."""

    members: Flags
    """Those that reached it."""
    good: Whole
    """Positions of those it answered well."""
    fails: Flags
    """With what it refused alone."""
    refuses: Flags
    losses: Floats
    """(n,) of each of the block's requests."""
    expected: Floats
    """(SIZE,), of the population."""
    milliseconds: Floats


def block_counts(traffic: SimulatedTraffic, block: int, road: Road, at: LabelTimes) -> BlockCounts:
    """One block's windows, all of them on this road."""
    requests, people = traffic.block(block), traffic.population(shadow=road.shadow)
    ours = requests.draw < road.share
    theirs = np.ones(len(ours), dtype=bool) if road.shadow else ~ours
    shift = traffic.shift(requests.window)
    alone = requests.candidate_refuses & ~(requests.stable_refuses | requests.stable_fails)
    arms = [
        _ArmRequests(members, np.flatnonzero(members & ~(fails | refuses)), fails, refuses, *figures)
        for members, fails, refuses, *figures in (
            (
                ours,
                requests.candidate_fails | alone if road.shadow else requests.candidate_fails,
                requests.candidate_refuses,
                people.candidate_losses[requests.row] + shift,
                people.candidate_expected,
                requests.candidate_ms,
            ),
            (
                theirs,
                requests.stable_fails,
                requests.stable_refuses,
                people.stable_losses[requests.row],
                people.stable_expected,
                requests.stable_ms,
            ),
        )
    ]
    both = arms[0].good[:0]
    if road.shadow:
        both = arms[0].good[~(requests.stable_fails | requests.stable_refuses)[arms[0].good]]
    rows = requests.row[both]
    difference = people.candidate_losses[rows] - people.stable_losses[rows]
    changing = [column for arm in arms for column in _arm(at, arm, requests.row, imputing=not road.shadow)]
    difference = difference + shift[both]
    changing += _sums(at.known[both], difference, BLOCK * at.delays)
    changing += _surprise(at, both if road.shadow else arms[1].good, requests.row, people, alone=road.shadow)
    fixed = [column for arm in arms for column in _fixed(at, arm, requests.stale)]
    fixed += _pairs(at, both, requests, people)
    fixed += [column for arm in arms for column in _refusals(at, arm)]
    fixed += [*_minutes(at, arms, requests.at, traffic.scale.look_hours)]
    cube = np.stack(changing).reshape(-1, BLOCK, at.delays)[:, :, :-1].cumsum(axis=2)
    slices = shares = np.empty(0)
    if traffic.scale.asks_slices(shadow=road.shadow):
        part = people.parts[requests.row]
        slices, shares = _slices(at, part, arms, both, difference), _shares(at, part, arms)
    return BlockCounts(
        np.ascontiguousarray(cube.transpose(1, 2, 0)),
        np.stack(fixed, axis=1),
        _bins(at, arms, binned=traffic.scale.asks_quantiles),
        slices,
        shares,
    )


def _sums(at: Whole, values: Floats, size: int) -> list[Floats]:
    return [_count(at, None, size), _count(at, values, size), _count(at, values * values, size)]


def _count(at: Whole, weights: Floats | Flags | None, size: int) -> Floats:
    return np.bincount(at, weights, size).astype(np.float64, copy=False)


def _surprise(at: LabelTimes, good: Whole, row: Whole, people: Population, *, alone: bool) -> list[Floats]:
    """Sums of the covariates; and of products, but where they are ``alone``."""
    rows, place, size = row[good], at.known[good], BLOCK * at.delays
    loss, *surprise = (values[rows] for values in (people.stable_losses, *people.covariates.values()))
    sums = [_count(place, values, size) for values in surprise]
    if alone:
        return [*sums, *[np.zeros(size)] * 5]
    first, second = surprise
    products = (loss * first, loss * second, first * first, first * second, second * second)
    return [*sums, *(_count(place, values, size) for values in products)]


def _arm(at: LabelTimes, arm: _ArmRequests, row: Whole, *, imputing: bool) -> list[Floats]:
    size, rows = BLOCK * at.delays, row[arm.good]
    losses = arm.losses[arm.good]
    known, due, both = _sums(at.known[arm.good], losses, size), at.due[arm.good], at.both[arm.good]
    counts = [_count(due, None, size), _count(both, None, size)]
    if not imputing:
        return [*known, *counts, *[np.zeros(size)] * 4]
    expected = arm.expected[rows]
    return [*known, *counts, *_sums(due, expected, size)[1:], *_sums(both, losses - expected, size)[1:]]


def _fixed(at: LabelTimes, arm: _ArmRequests, stale: Flags) -> list[Floats]:
    window = at.window[arm.members]
    counts = [_count(window, None, BLOCK)]
    marks = (arm.fails, stale & ~(arm.fails | arm.refuses))
    counts += [_count(window, mark[arm.members], BLOCK) for mark in marks]
    timed = arm.members & ~arm.refuses
    milliseconds = arm.milliseconds[timed] if len(arm.milliseconds) else arm.milliseconds
    return [*counts, *_sums(at.window[timed][: len(milliseconds)], milliseconds, BLOCK)]


def _refusals(at: LabelTimes, arm: _ArmRequests) -> list[Floats]:
    """All, and those alone."""
    marks = (arm.members & arm.refuses, arm.members & arm.refuses & arm.fails)
    return [_count(at.window[mark], None, BLOCK) for mark in marks]


def _pairs(at: LabelTimes, both: Whole, requests: Requests, people: Population) -> list[Floats]:
    first, second = (scores[requests.row[both]] for scores in (people.candidate_scores, people.stable_scores))
    window = at.window[both]
    agreed = _count(window, (first >= _THRESHOLD) == (second >= _THRESHOLD), BLOCK)
    timed = both if len(requests.stable_ms) else both[:0]
    more = requests.candidate_ms[timed] - requests.stable_ms[timed] if len(timed) else np.empty(0)
    return [*_sums(window, np.abs(first - second), BLOCK), agreed, *_sums(at.window[timed], more, BLOCK)]


def _minutes(at: LabelTimes, arms: Sequence[_ArmRequests], when: Floats, look_hours: float) -> Floats:
    """Summed columns by window, (``COLUMNS``, BLOCK); a minute that two windows share counts as two."""
    each = math.ceil(60 * look_hours)
    tens = math.ceil(each / TEN)
    of_window = np.minimum((60 * when - 60 * look_hours * (at.window + at.first)).astype(np.int64), each - 1)
    place, size = at.window * each + of_window, BLOCK * each
    table = np.zeros((5, len(arms), size))
    for number, arm in enumerate(arms):
        table[3, number] = np.bincount(place[arm.members], minlength=size)
        table[4, number] = np.bincount(place[arm.members & arm.refuses], minlength=size)
        mine = arm.members & (arm.fails | ~arm.refuses)
        minute = place[mine]
        table[0, number] = np.bincount(minute, minlength=size)
        table[1, number] = np.bincount(minute, arm.fails[mine], size)
        if len(arm.milliseconds):
            table[2, number] = np.bincount(minute, arm.milliseconds[mine], size)
    window, minute = np.divmod(np.arange(size), each)
    columns = minute_columns(window * tens + minute // TEN, *table)
    return np.asarray(columns.reshape(COLUMNS, BLOCK, each).sum(axis=2))


def _bins(at: LabelTimes, arms: Sequence[_ArmRequests], *, binned: bool) -> Floats:
    if not binned:
        return np.empty(0)
    bins = []
    for arm in arms:
        timed = arm.members & ~arm.refuses
        place = at.window[timed] * _BINS + np.searchsorted(LATENCY_BOUNDS_MS, arm.milliseconds[timed])
        bins.append(np.bincount(place, minlength=BLOCK * _BINS).reshape(BLOCK, _BINS))
    return np.stack(bins, axis=1).astype(np.float64)


def _slices(at: LabelTimes, part: Whole, arms: Sequence[_ArmRequests], both: Whole, difference: Floats) -> Floats:
    place, size = at.known * SLICES + part, BLOCK * at.delays * SLICES
    if len(both):
        columns = [*_sums(place[both], difference, size), *np.zeros((3, size))]
    else:
        columns = [column for arm in arms for column in _sums(place[arm.good], arm.losses[arm.good], size)]
    cube = np.stack(columns).reshape(6, BLOCK, at.delays, SLICES)[:, :, :-1].cumsum(axis=2)
    return np.ascontiguousarray(cube.transpose(1, 2, 3, 0))


def _shares(at: LabelTimes, part: Whole, arms: Sequence[_ArmRequests]) -> Floats:
    columns = []
    for arm in arms:
        asked = arm.members & (arm.fails | ~arm.refuses)
        place = (at.window * SLICES + part)[asked]
        columns.append(np.bincount(place, minlength=BLOCK * SLICES))
        columns.append(np.bincount(place, arm.fails[asked], BLOCK * SLICES))
    return np.stack(columns, axis=1).reshape(BLOCK, SLICES, 4).astype(np.float64)
