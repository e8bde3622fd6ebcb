"""The prediction log of a cluster: batches and labels in a store, as ``PredictionSource`` reads them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import polars as pl

from sluice.documents.event_time import moment_of
from sluice.documents.state import ReleaseState
from sluice.feedback.attribution import attribute_rows
from sluice.feedback.batch import labels_at
from sluice.feedback.store import AT_ONCE, BatchKind, PredictionStore
from sluice.object_store import ObjectLocation

if TYPE_CHECKING:
    from sluice.gates.policy import GatePolicy

_BEFORE = timedelta(days=1)
"""A server's clock may differ, and a batch is begun before its last rows are written."""
WATCHED = timedelta(days=3)
"""What is looked at between rollouts: the newest requests, and those whose labels are due."""
_TOGETHER = 256
"""Objects whose rows become one frame."""


@dataclass
class StoreLog:
    """
    One task in one environment; objects are read once, for they never change.

    Args:
        store: where it is.
        settle: see ``sluice.feedback.attribution``.
    """

    store: PredictionStore
    settle: timedelta = timedelta(0)
    _history: dict[int, ReleaseState] | None = None
    _labels: dict[ObjectLocation, pl.DataFrame] = field(default_factory=dict)
    _last: dict[ObjectLocation, datetime] = field(default_factory=dict)
    """Event time of each batch's last row."""

    def pieces(
        self, state: ReleaseState, policy: GatePolicy, now: datetime, /
    ) -> Iterator[tuple[Hashable, Callable[[], pl.DataFrame]]]:
        """
        The batches since the rollout began, between rollouts the latest ones; of one whose last row is older than a new
        stage, nothing changes.
        """
        history, hours = self.remember(state), policy.online.look_every_hours
        starts = sorted({moment_of(one.since) for one in history if one.since})
        for batch in self.store.batches("predictions", self._start(state, now) - _BEFORE):
            rows = None if batch in self._last else self.store.read("predictions", batch)
            if rows is not None:
                newest = rows["event_time"].max()
                self._last[batch] = newest if isinstance(newest, datetime) else starts[0]
            yield (
                (batch, bisect_right(starts, self._last[batch])),
                partial(self._attribute, batch, rows, history, hours),
            )

    def _attribute(
        self, batch: ObjectLocation, rows: pl.DataFrame | None, history: tuple[ReleaseState, ...], hours: float
    ) -> pl.DataFrame:
        known = self.store.read("predictions", batch) if rows is None else rows
        return attribute_rows(known, history, hours, self.settle)

    def labels(self, state: ReleaseState, now: datetime, /) -> pl.DataFrame:
        """Those that arrived in that time, as they were known at ``now``."""
        batches = self.store.batches("labels", self._start(state, now) - _BEFORE)
        self._labels = {batch: self._read(batch) for batch in batches}
        return labels_at(
            pl.concat([pl.DataFrame(schema=dict(self.store.schema("labels"))), *self._labels.values()]), now
        )

    def _read(self, batch: ObjectLocation) -> pl.DataFrame:
        known = self._labels.get(batch)
        return self.store.read("labels", batch) if known is None else known

    def gather(self, kind: BatchKind, since: datetime, keep: Callable[[pl.DataFrame], pl.DataFrame]) -> pl.DataFrame:
        """
        What ``keep`` leaves of every batch that was begun since then; of the batches nothing is remembered.

        Raises:
            BadInput, BadArtifact: as of ``PredictionStore``.
        """
        batches, frames = (
            self.store.batches(kind, since - _BEFORE),
            [keep(pl.DataFrame(schema=dict(self.store.schema(kind))))],
        )
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for start in range(0, len(batches), _TOGETHER):
                some = pool.map(lambda batch: keep(self.store.read(kind, batch)), batches[start : start + _TOGETHER])
                frames.append(pl.concat(some))
        return pl.concat(frames)

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

    def _start(self, state: ReleaseState, now: datetime) -> datetime:
        """Of the rollout; between rollouts of what is watched."""
        if state.rollout is None:
            return max(moment_of(state.since or ""), now - WATCHED)
        stages = [one for one in self.remember(state) if one.rollout == state.rollout and one.since]
        return min(moment_of(one.since or "") for one in stages)
