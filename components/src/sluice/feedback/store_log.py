"""The prediction log of a cluster: batches and labels in a store, as ``PredictionSource`` reads them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from sluice.feedback.attribution import attributed
from sluice.feedback.batch import LABEL_SCHEMA, labels_at
from sluice.feedback.store import Store
from sluice.release.state import ReleaseState, moment_of

if TYPE_CHECKING:
    from sluice.gates.policy import GatePolicy

_BEFORE = timedelta(days=1)
"""A server's clock may differ, and a batch is begun before its last rows are written."""


@dataclass
class StoreLog:
    """
    One task in one environment; objects are read once, for they never change.

    Args:
        store: where it is.
        settle: see ``sluice.feedback.attribution``.
    """

    store: Store
    settle: timedelta = timedelta(0)
    _history: dict[int, ReleaseState] | None = None
    _labels: dict[str, pl.DataFrame] = field(default_factory=dict)

    def pieces(
        self, state: ReleaseState, policy: GatePolicy, _now: datetime, /
    ) -> Iterable[tuple[Hashable, Callable[[], pl.DataFrame]]]:
        """The batches since the rollout began; which stage a row belongs to is known anew when a stage begins."""
        history = self.remember(state)

        def read(name: str) -> Callable[[], pl.DataFrame]:
            hours = policy.online.look_every_hours
            return lambda: attributed(self.store.read("predictions", name), history, hours, self.settle)

        names = self.store.names("predictions", self._begun(state) - _BEFORE)
        return [((name, state.sequence), read(name)) for name in names]

    def labels(self, state: ReleaseState, now: datetime, /) -> pl.DataFrame:
        """Those that arrived since the rollout began, as they were known at ``now``."""
        names = self.store.names("labels", self._begun(state) - _BEFORE)
        self._labels = {name: self._read(name) for name in names}
        return labels_at(pl.concat([pl.DataFrame(schema=dict(LABEL_SCHEMA)), *self._labels.values()]), now)

    def _read(self, name: str) -> pl.DataFrame:
        found = self._labels.get(name)
        return self.store.read("labels", name) if found is None else found

    def remember(self, state: ReleaseState) -> tuple[ReleaseState, ...]:
        """
        All release states that were seen, this one included; it is kept in the store, so that who looks later, or
        elsewhere, knows it too.
        """
        if self._history is None:
            self._history = {known.sequence: known for known in self.store.releases()}
        if self._history.get(state.sequence) != state:
            self.store.put_release(state)
            self._history[state.sequence] = state
        return tuple(self._history[sequence] for sequence in sorted(self._history))

    def _begun(self, state: ReleaseState) -> datetime:
        stages = [one for one in self.remember(state) if one.rollout == state.rollout and one.since]
        return min(moment_of(one.since or "") for one in stages)
