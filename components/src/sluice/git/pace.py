"""
How long a writer waits that lost a race, where writers see no line to stand in: on another machine's repository.

All writers wait for a random share of some slots, each as long as a try takes. Slots are doubled by a lost race and
fall again by one that was won, so a busy repository is tried by one or two at a time, and a quiet one at once. A winner
waits likewise before its next decision, or it would win again while others wait; who has lost often waits for less.
"""

from __future__ import annotations

import random

_MOST_SLOTS = 16.0
_LONGEST_SLOT = 2.0
"""Seconds: a try that was stuck tells nothing of how long the next one takes."""
_OLD = 4
"""Lost races after which a writer waits for half as long."""


class Pace:
    """
    One writer's.

    Args:
        seed: of the random shares.
    """

    def __init__(self, seed: int = 0) -> None:
        self._chance = random.Random(seed)  # noqa: S311  spreads tries, no secret
        self._slots, self._losses, self._seconds = 1.0, 0, 0.0

    def first(self) -> float:
        """Seconds until a decision's first try: none where no race was lost lately."""
        return self._share() if self._slots > 1 else 0.0

    def lost(self, seconds: float) -> float:
        """Seconds until the next try, after one that took ``seconds`` and lost."""
        self._losses += 1
        self._slots, self._seconds = min(_MOST_SLOTS, 2 * self._slots), min(seconds, _LONGEST_SLOT)
        return self._share() / (1 + self._losses / _OLD)

    def won(self) -> None:
        """The decision is written, or none is wanted any more."""
        self._slots, self._losses = max(1.0, self._slots / (2 if self._losses else 4)), 0

    def _share(self) -> float:
        return self._chance.uniform(0, self._slots * self._seconds)
