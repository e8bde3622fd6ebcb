"""Evidence from the rows of the prediction log and the labels that are in; and one document from its parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from sluice.data.divergence import FeatureProfile
from sluice.documents.event_time import iso, moment_of
from sluice.documents.evidence import ABOUT, SIDES, Arm, Cells, Evidence, Source
from sluice.documents.state import Applied, ReleaseState
from sluice.evidence.measurements.measurement import Part, SideRows, StageRows
from sluice.evidence.measurements.minutes import minute_sums
from sluice.evidence.measurements.registry import merged, part_of_rows
from sluice.evidence.rows import (
    COVARIATE,
    YARDSTICK,
    Types,
    decoded,
    of_route,
    predictions_of,
    refused,
    refused_alone,
    slice_column,
    with_labels,
)
from sluice.stages.registry import STAGES
from sluice.targets.kind import TargetKind
from sluice.targets.yardstick import Yardstick
from sluice.tasks.task import Slice


def collect_evidence(
    predictions: pl.DataFrame,
    labels: pl.DataFrame,
    state: ReleaseState,
    applied: Applied,
    profiles: Mapping[str, FeatureProfile],
    *,
    now: datetime,
    label_maturity_hours: float,
    block_hours: float = 24,
    recent_hours: float | None = None,
    cells: Cells | None = None,
    slices: Sequence[Slice] = (),
    carried: Types | None = None,
    thresholds: Mapping[str, float | None] | None = None,
    yardstick: Yardstick = YARDSTICK,
    sources: Sequence[Source] = (),
) -> Evidence:
    """
    The evidence about ``state`` at ``now``.

    Args:
        predictions: every prediction of the rollout so far (``windows.read_rollout``); rows of earlier stages are
            left out here. Confirm takes its labels from canary and confirm together: the *cohort*.
        labels: example_id (= request_id), label, label_time; those with ``label_time > now`` are not looked at.
        block_hours: length of a block of event time.
        profiles: of the candidate's bundle.
        recent_hours: those since the last look.
        cells: a sample of served features read again offline.
        slices: partitions to count apart; none by default.
        carried: what a request carries (``Task.entity_keys``, ``Task.request_inputs``), with types, for the slices.
        thresholds: score from which a digest decides positive, ``None`` where its kind has none; of a digest that is
            not among them nobody knows whether it agrees.
        yardstick: the target and its loss.
        sources: where predictions, labels and cells come from.
    """
    rows = with_labels(decoded(predictions, profiles, slices, carried or {}), labels, now, yardstick)
    live = rows.filter(pl.col("event_time") >= moment_of(state.since)) if state.since else rows.clear()
    requests = _by_side(live, state)
    if state.is_mirrored:
        requests["candidate"] = refused_alone(requests["candidate"], requests["stable"], slices)
    sides = _not_refused(requests)
    stage_rows = StageRows(
        state=state,
        due=now - timedelta(hours=label_maturity_hours),
        block=timedelta(hours=block_hours),
        recent=now - timedelta(hours=recent_hours) if recent_hours else None,
        live=live,
        served=sides,
        refused={side: part.filter(refused()) for side, part in requests.items()},
        by_minute=minute_sums(requests),
        cohort=_not_refused(_by_side(_of_rollout(rows) if STAGES[state.stage].whole_rollout else live, state)),
        pairs=_pairs(of_route(live, "shadow", state.candidate), sides["stable"], slices, yardstick.target),
        profiles=profiles,
        slices=tuple(slices),
        target=yardstick.target,
        thresholds=thresholds or {},
        cells=cells,
    )
    return evidence_about(state, applied, iso(now), [part_of_rows(stage_rows)], sources=tuple(sources))


def evidence_about(state: ReleaseState, applied: Applied, now: str, parts: Iterable[Part], **origin: Any) -> Evidence:
    """
    The document of these parts; of a side that the state has not, nothing is said.

    Args:
        origin: ``sources`` and ``problems``.
    """
    whole = merged(parts)
    for side in SIDES:
        digest, arm = getattr(state, side), whole.pop(side)
        whole[side] = Arm(digest=digest, **arm) if digest else None
    return Evidence(**{key: getattr(state, key) for key in ABOUT}, now=now, applied=applied, **whole, **origin)


def _by_side(rows: pl.DataFrame, state: ReleaseState) -> dict[str, pl.DataFrame]:
    candidate = of_route(rows, state.joined_route, state.candidate)
    return {"candidate": candidate, "stable": of_route(rows, "stable", state.stable)}


def _of_rollout(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(pl.col("route") != "shadow")


def _not_refused(sides: SideRows) -> dict[str, pl.DataFrame]:
    """Without what broke the contract; what was refused alone did not."""
    return {side: rows.filter(pl.col("alone") | ~refused()) for side, rows in sides.items()}


def _pairs(shadow: pl.DataFrame, stable: pl.DataFrame, slices: Sequence[Slice], target: TargetKind) -> pl.DataFrame:
    """See ``StageRows.pairs``."""
    columns = ["request_id", "score", "loss", "latency_ms"]
    names = [*columns, "event_time", "label", *map(slice_column, slices)]
    theirs = [*columns, *(COVARIATE + name for name in target.covariate_names)]
    pairs = shadow.filter("ok").select(names).join(stable.filter("ok").select(theirs), on="request_id", suffix="_s")
    pairs = pairs.sort("request_id").with_columns(difference=pl.col("loss") - pl.col("loss_s"))
    ours, others = (predictions_of(pairs[name], target) for name in ("score", "score_s"))
    return pairs.with_columns(shift=pl.Series(target.shift(ours, others), dtype=pl.Float64))
