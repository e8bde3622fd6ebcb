"""Evidence from a prediction log and the labels of its requests; a log's JSON is read once, however often one looks."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Protocol

import polars as pl

from sluice.documents.event_time import iso, moment_of
from sluice.documents.evidence import Cells, Evidence, Source
from sluice.documents.state import Applied, ReleaseState
from sluice.errors import BadInput
from sluice.evidence.collect import collect_evidence
from sluice.evidence.rows import decoded
from sluice.gates.block_length import block_hours_of
from sluice.gates.policy import GatePolicy, metric_problem
from sluice.models.bundle import BundleManifest
from sluice.predictions.contents import beside_their_rows
from sluice.predictions.log import first_answers
from sluice.predictions.windows import ROW_SCHEMA, list_windows, read_window
from sluice.tasks.answers import examples_of
from sluice.tasks.task import Slice, Task

Recheck = Callable[[pl.DataFrame, BundleManifest], Cells | None]
"""Reads served features again offline: a sample of the candidate's answers in the stage."""
_SAMPLE = 200
"""Requests of a look whose served features are read again."""
_TEXTS = ("features", "keys", "as_of")
"""What only a recheck reads, and most of a row."""


class Log(Protocol):
    """Where predictions and labels are: windows on disk here, a store in a cluster (``sluice.feedback.store_log``)."""

    def pieces(
        self, state: ReleaseState, policy: GatePolicy, now: datetime, /
    ) -> Iterable[tuple[Hashable, Callable[[], pl.DataFrame]]]:
        """What there is of the rollout: each piece by a key for which it never changes, read when it is called."""

    def labels(self, state: ReleaseState, now: datetime, /) -> pl.DataFrame:
        """example_id (= request_id), label and label_time of what is known at ``now``."""


@dataclass(frozen=True)
class WindowLog:
    """One environment's windows in a directory (``sluice.predictions.windows``); the task knows the labels."""

    directory: Path
    task: Task

    def pieces(
        self, _state: ReleaseState, _policy: GatePolicy, now: datetime, /
    ) -> Iterable[tuple[Hashable, Callable[[], pl.DataFrame]]]:
        """The windows that ended by ``now``."""
        windows = [window for window in list_windows(self.directory) if window.end <= now]
        return [(window.path, partial(read_window, window)) for window in windows]

    def labels(self, _state: ReleaseState, now: datetime, /) -> pl.DataFrame:
        """From the task's recorded examples."""
        columns = ("example_id", "label", "label_time")
        return examples_of(self.task, self.task.splits.live, now, columns).select(columns)


@dataclass
class PredictionSource:
    """
    One environment's prediction log, joined with labels.

    Args:
        log: gives predictions and labels.
        task: gives slices, and the types of what requests carry.
        manifest: of a digest's bundle.
        recheck: compares served cells with offline ones; without it ``cells`` are unknown.
    """

    log: Log
    task: Task
    manifest: Callable[[str], BundleManifest]
    recheck: Recheck | None = None
    _rollout: tuple[str | None, str | None, bool] = (None, None, False)
    _pieces: dict[Hashable, pl.DataFrame] = field(default_factory=dict)

    def read(
        self,
        state: ReleaseState,
        policy: GatePolicy,
        applied: Applied,
        now: datetime,
        synced: datetime | None = None,  # noqa: ARG002  rows are marked with their rollout and route
    ) -> Evidence:
        """
        The evidence of all that the log has at ``now``; between rollouts about the stable model alone.

        Raises:
            BadArtifact: a piece that cannot be read, or a bundle that is not there.
            BadInput: the policy names a metric or a loss that the task does not have.
        """
        if problem := metric_problem(policy, self.task.yardstick.metrics):
            raise BadInput(f"gate policy of {policy.environment}: {problem.key}", problem.rule, problem.fix)
        slices = self.task.slices if _asks_slices(state, policy) else ()
        subject = self.manifest(_subject(state))
        rows = self._rows(state, subject, slices, self.log.pieces(state, policy, now))
        rows = rows.filter(pl.col("event_time") < now)
        labels = self.log.labels(state, now)
        cells = self._cells(rows, state, subject)
        manifests = {_subject(state): subject}
        if state.stable:
            manifests[state.stable] = self.manifest(state.stable)
        return collect_evidence(
            rows,
            labels,
            state,
            applied,
            subject.profiles,
            now=now,
            label_maturity_hours=policy.online.label_maturity_hours,
            block_hours=block_hours_of(policy.online, state),
            recent_hours=policy.online.oldest_hours,
            cells=cells,
            slices=slices,
            carried=self._carried,
            yardstick=self.task.yardstick,
            thresholds={digest: manifest.threshold for digest, manifest in manifests.items()},
            sources=_sources(state, rows, labels, cells, now),
        )

    @property
    def _carried(self) -> Mapping[str, pl.DataType | type[pl.DataType]]:
        return self.task.logged

    def _rows(
        self,
        state: ReleaseState,
        subject: BundleManifest,
        slices: tuple[Slice, ...],
        pieces: Iterable[tuple[Hashable, Callable[[], pl.DataFrame]]],
    ) -> pl.DataFrame:
        """All predictions of the rollout, decoded; those of a piece that is gone are forgotten."""
        about = (state.rollout, _subject(state), bool(slices))
        if about != self._rollout:
            self._rollout, self._pieces = about, {}
        before, self._pieces = self._pieces, {}
        for key, read in pieces:
            if (piece := before.get(key)) is None:
                rows = read().filter(pl.col("rollout") == (state.rollout or ""))
                piece = decoded(rows, subject.profiles, slices, self._carried)
                sample = (_sample(piece, state) if self.recheck else piece.head(0))["request_id"].to_list()
                in_sample = pl.when(pl.col("request_id").is_in(sample))
                piece = beside_their_rows(piece, sample)
                piece = piece.with_columns(in_sample.then(name).otherwise(pl.lit("")) for name in _TEXTS)
            self._pieces[key] = piece
        none = decoded(pl.DataFrame(schema=ROW_SCHEMA), subject.profiles, slices, self._carried)
        return first_answers(pl.concat([*self._pieces.values()] or [none]))

    def _cells(self, rows: pl.DataFrame, state: ReleaseState, subject: BundleManifest) -> Cells | None:
        if self.recheck is None:
            return None
        sample = _sample(rows, state)
        return None if sample.is_empty() else self.recheck(sample, subject)


def _sample(rows: pl.DataFrame, state: ReleaseState) -> pl.DataFrame:
    """Of the subject's answers in the stage; the sample of all pieces is in the samples of each."""
    answered = pl.col("digest") == _subject(state), pl.col("status") < 400
    sample = rows.filter(pl.col("event_time") >= moment_of(state.since or ""), *answered)
    return sample.sort(pl.col("request_id").hash(seed=0), "request_id").head(_SAMPLE)


def _subject(state: ReleaseState) -> str:
    """Whose features are looked at: the candidate's, and between rollouts stable's."""
    return state.candidate or state.stable or ""


def _asks_slices(state: ReleaseState, policy: GatePolicy) -> bool:
    """Slices make documents long, so they are counted where a rule of the stage reads them."""
    stage = policy.online.stages.get(state.stage)
    return stage is not None and any(rule.per_slice for rule in stage.rules)


def _sources(
    state: ReleaseState, rows: pl.DataFrame, labels: pl.DataFrame, cells: Cells | None, now: datetime
) -> list[Source]:
    since = state.since or iso(now)
    queries = [
        ("prediction-log", f"rollout = {state.rollout} and {since} <= event_time < {iso(now)}", rows.height),
        ("labels", f"task = {state.task} and label_time <= {iso(now)}", labels.height),
    ]
    if cells:
        queries.append(("parity", _parity(state, cells), cells.compared))
    return [
        Source(name=name, query=query, first=since, last=iso(now), taken=iso(now), n=n) for name, query, n in queries
    ]


def _parity(state: ReleaseState, cells: Cells) -> str:
    left_out = f"; {cells.excluded} more cells cannot be compared" if cells.excluded else ""
    left_out += ", for the tables are built by other code than its frame's" if cells.other_tables else ""
    return f"a sample of what {_subject(state)} was served, read again offline{left_out}"
