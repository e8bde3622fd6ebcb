"""Writers that lose races get out of each other's way, and none is left behind."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from sluice.git.pace import Pace

_WRITERS, _EACH, _CORES, _TRY = 16, 25, 2, 0.15
"""Decisions of each writer, and what a try takes of one core in seconds."""


def test_nobody_waits_who_lost_no_race() -> None:
    pace = Pace()
    assert pace.first() == 0
    pace.won()
    assert pace.first() == 0
    assert 0 < pace.lost(1.0) <= 2
    assert 0 < pace.first() <= 2
    pace.won()
    assert pace.first() == 0


def test_a_busy_repository_is_tried_less_often_and_who_lost_often_waits_for_less() -> None:
    def mean(losses: int) -> float:
        waits = []
        for seed in range(200):
            pace = Pace(seed)
            waits.append([pace.lost(1.0) for _ in range(losses)][-1])
        return sum(waits) / len(waits)

    assert mean(1) < mean(2) < mean(4)
    assert mean(40) < mean(8) < mean(4)


def test_a_try_that_was_stuck_makes_nobody_wait_for_minutes() -> None:
    pace = Pace()
    waits = [pace.lost(60.0) for _ in range(20)]
    assert 2 < max(waits) < 32


@dataclass
class _Writer:
    first: Callable[[], float]
    lost: Callable[[float], float]
    won: Callable[[], None]
    at: float
    left: int = _EACH
    work: float = 0.0
    base: int = -1
    """The tip that the try began on; below 0 while it waits."""
    began: float = 0.0
    started: float = 0.0
    took: list[float] = field(default_factory=list)


def _race(writers: list[_Writer]) -> tuple[float, float]:
    """Seconds until all is written, and in which 99 of 100 decisions were; tries share the cores, and one wins."""
    chance, now, tip = random.Random(3), 0.0, 0  # noqa: S311
    while waiting := [one for one in writers if one.left]:
        trying = [one for one in waiting if one.base >= 0]
        speed = min(1.0, _CORES / len(trying)) if trying else 1.0
        step = min(one.work / speed if one.base >= 0 else one.at - now for one in waiting)
        now += step
        for one in trying:
            one.work -= step * speed
        for one in waiting:
            if one.base < 0 and one.at <= now + 1e-9:
                one.base, one.work, one.began = tip, _TRY * chance.uniform(0.8, 1.2), now
            elif one.base >= 0 and one.work <= 1e-9:
                if one.base == tip:
                    tip += 1
                    one.took.append(now - one.started)
                    one.left -= 1
                    one.won()
                    one.started, one.at = now, now + one.first()
                else:
                    one.at = now + one.lost(now - one.began)
                one.base = -1
    took = sorted(seconds for one in writers for seconds in one.took)
    return now, took[int(0.99 * (len(took) - 1))]


def _naive(seed: int) -> _Writer:
    """Fetch, commit, push, and again after a random pause that doubles up to a second."""
    chance, losses = random.Random(seed), [0]  # noqa: S311

    def lost(_: float) -> float:
        losses[0] += 1
        return chance.uniform(0, min(1.0, 0.02 * 2 ** losses[0]))

    def won() -> None:
        losses[0] = 0

    return _Writer(lambda: 0.0, lost, won, 0.02 * seed)


def _ours(seed: int) -> _Writer:
    pace = Pace(seed)
    return _Writer(pace.first, pace.lost, pace.won, 0.02 * seed)


def test_sixteen_writers_without_a_line_take_half_of_what_the_naive_loop_takes_and_none_starves() -> None:
    wall, slow = _race([_ours(seed) for seed in range(_WRITERS)])
    naive_wall, naive_slow = _race([_naive(seed) for seed in range(_WRITERS)])
    assert wall < 0.7 * naive_wall
    assert slow < 0.4 * naive_slow
    assert slow < wall / 3
