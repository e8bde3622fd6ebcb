"""Evidence from the prediction log on disk, window by window; a window's JSON is read once, however often one looks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from sluice.models.bundle import BundleManifest
from sluice.monitoring.collect import collect_evidence
from sluice.monitoring.evidence import Cells, Evidence, Source
from sluice.monitoring.rows import decoded
from sluice.monitoring.windows import ROW_SCHEMA, list_windows, read_window
from sluice.release.state import Applied, ReleaseState, iso, moment_of
from sluice.tasks.task import Slice, Task

if TYPE_CHECKING:
    from sluice.gates.policy import GatePolicy

Recheck = Callable[[pl.DataFrame, BundleManifest], Cells | None]
"""Reads a sample of the candidate's served features again offline; of rows of the stage that it answered."""


@dataclass
class PredictionSource:
    """
    One environment's prediction log, joined with the task's labels.

    Args:
        directory: windows of the environment (``sluice.monitoring.windows``).
        task: gives labels, slices, and the types of what requests carry.
        manifest: of a digest's bundle.
        recheck: compares served cells with offline ones; without it ``cells`` are unknown.
    """

    directory: Path
    task: Task
    manifest: Callable[[str], BundleManifest]
    recheck: Recheck | None = None
    _rollout: tuple[str | None, str | None, bool] = (None, None, False)
    _windows: dict[Path, pl.DataFrame] = field(default_factory=dict)

    def read(self, state: ReleaseState, policy: GatePolicy, applied: Applied, now: datetime) -> Evidence:
        """
        The evidence of all windows that ended by ``now``.

        Raises:
            BadArtifact: a window that cannot be read, or a bundle that is not there.
        """
        slices = self.task.slices if _asks_slices(state, policy) else ()
        candidate = self.manifest(state.candidate or "")
        rows = self._rows(state, candidate, slices, now)
        labels = self.task.read_examples(self.task.splits.live, now).select("example_id", "label", "label_time")
        cells = self._cells(rows, state, candidate)
        manifests = {state.candidate or "": candidate}
        if state.stable:
            manifests[state.stable] = self.manifest(state.stable)
        return collect_evidence(
            rows,
            labels,
            state,
            applied,
            candidate.profiles,
            now=now,
            label_maturity_hours=policy.online.label_maturity_hours,
            cells=cells,
            slices=slices,
            carried=self._carried,
            thresholds={digest: manifest.threshold for digest, manifest in manifests.items()},
            sources=_sources(state, rows, labels, cells, now),
        )

    @property
    def _carried(self) -> Mapping[str, pl.DataType | type[pl.DataType]]:
        return {**dict.fromkeys(self.task.entity_keys, pl.String), **self.task.request_inputs}

    def _rows(
        self, state: ReleaseState, candidate: BundleManifest, slices: tuple[Slice, ...], now: datetime
    ) -> pl.DataFrame:
        """All predictions of the rollout in windows that ended by ``now``, decoded."""
        about = (state.rollout, state.candidate, bool(slices))
        if about != self._rollout:
            self._rollout, self._windows = about, {}
        ended = [window for window in list_windows(self.directory) if window.end <= now]
        for window in ended:
            if window.path not in self._windows:
                rows = read_window(window).filter(pl.col("rollout") == state.rollout)
                self._windows[window.path] = decoded(rows, candidate.profiles, slices, self._carried)
        none = decoded(pl.DataFrame(schema=ROW_SCHEMA), candidate.profiles, slices, self._carried)
        whole = pl.concat([none, *(self._windows[window.path] for window in ended)])
        return whole.sort("event_time", "request_id", "route")

    def _cells(self, rows: pl.DataFrame, state: ReleaseState, candidate: BundleManifest) -> Cells | None:
        if self.recheck is None:
            return None
        since = moment_of(state.since or "")
        answered = pl.col("digest") == state.candidate, pl.col("status") < 400
        served = rows.filter(pl.col("event_time") >= since, *answered)
        return None if served.is_empty() else self.recheck(served, candidate)


def _asks_slices(state: ReleaseState, policy: GatePolicy) -> bool:
    """Slices make documents long, so they are counted where a rule of the stage reads them."""
    stage = policy.online.stages.get(state.stage)
    return stage is not None and any(rule.per_slice for rule in stage.rules)


def _sources(
    state: ReleaseState, rows: pl.DataFrame, labels: pl.DataFrame, cells: Cells | None, now: datetime
) -> list[Source]:
    since = state.since or iso(now)
    asked = [
        ("prediction-log", f"rollout = {state.rollout} and {since} <= event_time < {iso(now)}", rows.height),
        ("labels", f"task = {state.task} and label_time <= {iso(now)}", labels.height),
    ]
    if cells:
        asked.append(("parity", f"a sample of what {state.candidate} was served, read again offline", cells.compared))
    return [Source(name=name, query=query, first=since, last=iso(now), taken=iso(now), n=n) for name, query, n in asked]
