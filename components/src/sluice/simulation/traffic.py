"""The requests of one rollout, block by block; whoever plays it, at whatever weight, meets the same ones."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sluice.arrays import Floats
from sluice.simulation.population import SIZE, Population, population
from sluice.simulation.worlds import TrafficScale, World

BLOCK = 8
"""Windows whose requests are made at once."""
HEALTHY = 0.1
"""Stable's rate of failed answers, in allowed rates."""
_STABLE_MS, _SPREAD = 3.0, 0.5
_GRID = 1 << 13
_NORMAL = np.array([NormalDist().inv_cdf((step + 0.5) / _GRID) for step in range(_GRID)])
"""Standard normal quantiles: to look one up is five times as fast as to draw one."""
_MILLISECONDS = _STABLE_MS * np.exp(_SPREAD * _NORMAL - _SPREAD**2 / 2)
_TAIL = 20.0
"""How many times as long a request takes that is in the tail."""
_DELAYS = np.exp(0.5 * _NORMAL)
"""Of labels, in medians."""
_POSITIVE_LATER = 1.5
_BAND = 0.1
"""A burst's requests come from a tenth of the population."""
_BURST_SHAPE = 0.25
_STORM_MEMORY = 0.42
_DAY = 1440
"""Minutes."""
Flags = NDArray[np.bool_]
Whole = NDArray[np.int64]


class Requests(NamedTuple):
    """
    Requests in no order; arrays of shape (n,).

    ``window``: number of the window (between two looks) that it comes in. ``at``: hours since the rollout began.
    ``row``: position in the population. ``draw``: uniform on [0, 1), the hash of the id that splits the traffic.
    ``label_at``: hours, infinite for a label that never comes. Timings are empty where the policy reads none.
    """

    window: Whole
    at: Floats
    row: Whole
    draw: Floats
    candidate_fails: Flags
    stable_fails: Flags
    stale: Flags
    label_at: Floats
    candidate_ms: Floats
    stable_ms: Floats
    candidate_refuses: Flags
    stable_refuses: Flags

    def of(self, members: Flags) -> Requests:
        """Those of them that ``members`` (n,) marks."""
        columns: Any = (column[members] if len(column) else column for column in self)
        return Requests(*columns)


@dataclass
class SimulatedTraffic:
    """The requests of one rollout, made when they are first asked for and kept: equal seed, equal requests."""

    world: World
    scale: TrafficScale
    seed: int
    rollout: int
    blocks: list[Requests] = field(default_factory=list)

    def __post_init__(self) -> None:
        """One stream of random numbers a rollout, so that rollouts do not depend on how they are dealt to cores."""
        key = [self.seed, zlib.crc32(self.world.name.encode()), self.rollout]
        self._random = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))
        self._weather = np.random.Generator(np.random.PCG64(np.random.SeedSequence([*key, 1])))
        self._trouble = np.random.Generator(np.random.PCG64(np.random.SeedSequence([*key, 2])))
        self._troubles: list[Floats] = []
        self._days: list[float] = []
        self._counts: list[int] = []

    def population(self, *, shadow: bool) -> Population:
        """What requests are drawn from; the same requests in every stage, but the candidate may answer them worse."""
        gap = self.world.gap if shadow else self.world.later
        return population(gap * self.scale.margin, self.world.slice_share)

    def shift(self, window: Whole) -> Floats:
        """
        Nats by which the candidate is worse for each request, (n,), as the days of their windows (n,) are.

        A day depends on the one before it (lag-1 autocorrelation ``_STORM_MEMORY``); the mean over all days is 0.
        """
        if not self.world.storm or not window.size:
            return np.zeros(window.size)
        day = (window * self.scale.look_hours // 24).astype(np.int64)
        while len(self._days) <= day.max():
            before = self._days[-1] if self._days else self._weather.standard_normal()
            new = math.sqrt(1 - _STORM_MEMORY**2) * self._weather.standard_normal()
            self._days.append(_STORM_MEMORY * before + new)
        return self.world.storm * self.scale.margin * np.array(self._days)[day]

    def block(self, index: int) -> Requests:
        """Windows ``BLOCK`` · index and on; those before are made first, so the order of asking does not matter."""
        while len(self.blocks) <= index:
            requests = self._block_requests(len(self.blocks))
            self.blocks.append(requests)
            self._counts += np.bincount(requests.window - BLOCK * (len(self.blocks) - 1), minlength=BLOCK).tolist()
        return self.blocks[index]

    def span(self, first: int, end: int) -> Requests:
        """All requests of the windows from ``first`` up to and without ``end``."""
        parts = [self.block(index) for index in range(first // BLOCK, (end - 1) // BLOCK + 1)]
        whole = Requests(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
        return whole.of((whole.window >= first) & (whole.window < end))

    def requests(self, windows: int) -> int:
        """Requests in the first ``windows`` windows."""
        self.block(max(windows - 1, 0) // BLOCK)
        return sum(self._counts[:windows])

    def _block_requests(self, index: int) -> Requests:
        random, world, rate = self._random, self.world, self.scale.error_rate
        window, at, position = self._arrivals(index * BLOCK)
        n = len(at)
        if world.drift:
            position = position ** (1 / (1 + world.drift * window * self.scale.look_hours / 24))
        row = (position * SIZE).astype(np.int64)
        draw, candidate_u, stable_u = random.random((3, n))
        labels = self.population(shadow=True).labels[row]
        out, slow = self._troubled(at)
        refused = random.random(n) if world.refusals or world.malformed else np.ones(n)
        ours, theirs = refused < world.refusals + world.malformed, refused < world.malformed
        return Requests(
            window=window,
            at=at,
            row=row,
            draw=draw,
            candidate_fails=((candidate_u < world.errors * rate) | out) & ~ours,
            stable_fails=((stable_u < HEALTHY * rate) | (out & world.is_shared)) & ~theirs,
            stale=random.random(n) < world.stale if world.stale else np.zeros(n, dtype=bool),
            label_at=self._label_times(at, labels),
            candidate_ms=self._timings(n, world.latency, world.tail) * (slow if self.scale.asks_latency else 1),
            stable_ms=self._timings(n, 1.0, 0.0),
            candidate_refuses=ours,
            stable_refuses=theirs,
        )

    def _arrivals(self, first: int) -> tuple[Whole, Floats, Floats]:
        """Windows, times in hours, and positions in the population on [0, 1)."""
        random, hours = self._random, self.scale.look_hours
        expected, numbers = self.scale.requests_a_day * hours / 24, np.arange(first, first + BLOCK)
        window = np.repeat(numbers, random.poisson(expected * (1 - self.world.bursts), BLOCK))
        part, position = random.random((2, len(window)))
        if not self.world.bursts:
            return window, hours * (window + part), position
        slots = max(round(hours), 1)
        mean = random.gamma(_BURST_SHAPE, expected * self.world.bursts / _BURST_SHAPE / slots, BLOCK * slots)
        slot = np.repeat(np.arange(BLOCK * slots), random.poisson(mean))
        kind = random.random(BLOCK * slots)[slot]
        burst_at = hours * (first + (slot + random.random(len(slot))) / slots)
        burst = (kind + _BAND * random.random(len(slot))) % 1.0
        return (
            np.concatenate([window, first + slot // slots]),
            np.concatenate([hours * (window + part), burst_at]),
            np.concatenate([position, burst]),
        )

    def _troubled(self, at: Floats) -> tuple[Flags, Floats]:
        """(n,) each: whether a request comes in an outage, and how many times as long the candidate takes for it."""
        world = self.world
        if not (world.outage or world.slow_minutes) or not at.size:
            return np.zeros(at.size, dtype=bool), np.ones(at.size)
        minute = (60 * at).astype(np.int64)
        day, of_day = minute // _DAY, minute % _DAY
        while len(self._troubles) <= day.max():
            self._troubles.append(np.append(self._trouble.random(_DAY), self._trouble.integers(_DAY - world.outage)))
        troubles = np.array(self._troubles)[day]
        begin = troubles[:, -1]
        out = (of_day >= begin) & (of_day < begin + world.outage)
        slow = troubles[np.arange(at.size), of_day] < world.slow_minutes
        return out, np.where(slow, _TAIL, 1.0)

    def _label_times(self, at: Floats, labels: Floats) -> Floats:
        random, world = self._random, self.world
        place, missing = random.random((2, len(at)))
        delay = world.label_hours * _DELAYS[(place * _GRID).astype(np.int64)] * (1 + (_POSITIVE_LATER - 1) * labels)
        return np.where(missing < world.label_missing, np.inf, at + delay)

    def _timings(self, n: int, ratio: float, tail: float) -> Floats:
        """Milliseconds, log-normal; only where the policy reads them."""
        if not self.scale.asks_latency:
            return np.empty(0)
        latencies = ratio * _MILLISECONDS[(self._random.random(n) * _GRID).astype(np.int64)]
        return np.asarray(np.where(self._random.random(n) < tail, _TAIL * latencies, latencies) if tail else latencies)
