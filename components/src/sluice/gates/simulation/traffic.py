"""The requests of one rollout, window by window; whoever plays it, at whatever weight, meets the same ones."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sluice.gates.simulation.population import Floats, Population, population
from sluice.gates.simulation.worlds import Scale, World

HEALTHY = 0.1
"""Stable's rate of failed answers, in allowed rates."""
_STABLE_MS, _SPREAD = 3.0, 0.5
_LABEL_SPREAD = 0.5
_POSITIVE_LATER = 1.5
_BAND = 0.1
"""A burst's requests come from a tenth of the population."""
_BURST_SHAPE = 0.25
Flags = NDArray[np.bool_]


class Window(NamedTuple):
    """
    All requests between two looks; arrays of shape (n,).

    ``at``: hours since the rollout began. ``row``: position in the population. ``draw``: uniform on [0, 1), the hash of
    the request id that splits the traffic. ``label_at``: hours, infinite for a label that never comes.
    """

    start: float
    end: float
    at: Floats
    row: NDArray[np.int64]
    draw: Floats
    candidate_fails: Flags
    stable_fails: Flags
    label_at: Floats
    candidate_ms: Floats
    stable_ms: Floats

    @property
    def n(self) -> int:
        """Requests."""
        return len(self.at)


@dataclass
class Traffic:
    """The windows of one rollout, made when they are first asked for and kept: equal seed, equal requests."""

    world: World
    scale: Scale
    seed: int
    rollout: int
    windows: list[Window] = field(default_factory=list)

    def __post_init__(self) -> None:
        """One stream of random numbers a rollout, so that rollouts do not depend on how they are dealt to cores."""
        key = [self.seed, zlib.crc32(self.world.name.encode()), self.rollout]
        self._random = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))

    @property
    def population(self) -> Population:
        """What the world's requests are drawn from."""
        return population(self.world.gap * self.scale.margin, self.world.slice_share)

    def window(self, index: int) -> Window:
        """Window ``index``; those before it are made first, so the order of asking does not matter."""
        while len(self.windows) <= index:
            self.windows.append(self._made(len(self.windows)))
        return self.windows[index]

    def requests(self, windows: int) -> int:
        """Requests in the first ``windows`` windows."""
        return sum(self.window(index).n for index in range(windows))

    def _made(self, index: int) -> Window:
        random, world = self._random, self.world
        start = index * self.scale.look_hours
        at, position = self._arrivals(start)
        n = len(at)
        if world.drift:
            position = position ** (1 / (1 + world.drift * start / 24))
        row = (position * len(self.population.labels)).astype(np.int64)
        draw, candidate_u, stable_u = random.random((3, n))
        return Window(
            start=start,
            end=start + self.scale.look_hours,
            at=at,
            row=row,
            draw=draw,
            candidate_fails=candidate_u < world.errors * self.scale.error_rate,
            stable_fails=stable_u < HEALTHY * self.scale.error_rate,
            label_at=self._label_times(at, self.population.labels[row]),
            candidate_ms=self._timings(n, world.latency),
            stable_ms=self._timings(n, 1.0),
        )

    def _arrivals(self, start: float) -> tuple[Floats, Floats]:
        """Times in hours, and positions in the population on [0, 1)."""
        random, hours = self._random, self.scale.look_hours
        expected = self.scale.requests_a_day * hours / 24
        even = int(random.poisson(expected * (1 - self.world.bursts)))
        at, position = random.random((2, even))
        if not self.world.bursts:
            return start + hours * at, position
        slots = max(round(hours), 1)
        sizes = random.poisson(random.gamma(_BURST_SHAPE, expected * self.world.bursts / _BURST_SHAPE / slots, slots))
        slot = np.repeat(np.arange(slots), sizes)
        kind = random.random(slots)[slot]
        burst_at = (slot + random.random(len(slot))) / slots
        burst = (kind + _BAND * random.random(len(slot))) % 1.0
        return start + hours * np.concatenate([at, burst_at]), np.concatenate([position, burst])

    def _label_times(self, at: Floats, labels: Floats) -> Floats:
        random, world = self._random, self.world
        delay = world.label_hours * np.exp(_LABEL_SPREAD * random.standard_normal(len(at)))
        delay *= np.where(labels > 0, _POSITIVE_LATER, 1.0)
        return np.where(random.random(len(at)) < world.label_missing, np.inf, at + delay)

    def _timings(self, n: int, ratio: float) -> Floats:
        """Milliseconds, log-normal; only where the policy reads them."""
        if not self.scale.asks_latency:
            return np.empty(0)
        return np.asarray(ratio * _STABLE_MS * np.exp(_SPREAD * self._random.standard_normal(n) - _SPREAD**2 / 2))
