"""Labels of each arm, and the loss that they say: of the whole cohort, and window by window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import accumulate
from typing import Any

import polars as pl

from sluice.documents.evidence import LABEL_DELAY_BOUNDS_S, SIDES, Evidence, Imputed, Moments, Stratum
from sluice.evidence.measurements.measurement import Measurement, Part, StageRows
from sluice.evidence.measurements.points import DataPoint, PointIndex, sums
from sluice.evidence.moments import label_delays, moments, moments_by

_Keyed = Mapping[tuple[str, ...], Moments]


def _from_rows(rows: StageRows) -> Part:
    return {side: _arm(cohort, rows) for side, cohort in rows.cohort.items()}


def _arm(cohort: pl.DataFrame, rows: StageRows) -> dict[str, Any]:
    mature = cohort.filter("ok", pl.col("event_time") <= rows.due)
    labelled = int(mature["label"].is_not_null().sum())
    return {"due": mature.height, "labelled": labelled, "loss": moments(cohort["loss"])}


def _to_points(evidence: Evidence) -> Iterator[DataPoint]:
    for side, arm in evidence.arms.items():
        yield DataPoint("labels_due", {"route": side}, arm.due)
        yield DataPoint("labels_known", {"route": side}, arm.labelled)
        yield from sums("loss", {"route": side, "window": "", "slice": ""}, arm.loss)


def _from_points(points: PointIndex) -> Part:
    return {
        side: {
            "due": points.count("labels_due", route=side),
            "labelled": points.count("labels_known", route=side),
            "loss": points.moments("loss", route=side),
        }
        for side in SIDES
    }


def _delay_points(evidence: Evidence) -> Iterator[DataPoint]:
    for side, arm in evidence.arms.items():
        if delays := arm.delays:
            name, labels = DELAYS.name, {"route": side}
            ends = (*map(str, LABEL_DELAY_BOUNDS_S), "+Inf")
            for end, below in zip(ends, accumulate(delays.counts), strict=True):
                yield DataPoint(f"{name}_bucket", labels | {"le": end}, below)
            yield DataPoint(f"{name}_count", labels, sum(delays.counts))
            yield DataPoint(f"{name}_sum", labels, delays.seconds)


def strata_by(candidate: _Keyed, stable: _Keyed) -> Iterator[tuple[tuple[str, ...], Stratum]]:
    """Those in which both arms have two losses, by keys that end with the window: in it chance alone decided."""
    for key in sorted(candidate.keys() & stable.keys()):
        if min(candidate[key].n, stable[key].n) > 1:
            yield key, Stratum(window=key[-1], candidate=candidate[key], stable=stable[key])


def _strata_from_rows(rows: StageRows) -> Part:
    losses = [moments_by(rows.cohort[side], ["window"], "loss") for side in SIDES]
    imputed = [_imputed(rows.cohort[side], rows.due) for side in SIDES]
    strata = (_with_imputed(one, *(side.get(key) for side in imputed)) for key, one in strata_by(*losses))
    return {"strata": tuple(strata)}


def _imputed(rows: pl.DataFrame, due: datetime) -> dict[tuple[str, ...], Imputed]:
    """By window, of the mature requests; a window of which no label is in has none."""
    mature = rows.filter("ok", pl.col("event_time") <= due).with_columns(rectifier=pl.col("loss") - pl.col("expected"))
    every, rectifier = (moments_by(mature, ["window"], column) for column in ("expected", "rectifier"))
    return {key: Imputed(every=every[key], rectifier=rectifier[key]) for key in rectifier}


def _with_imputed(stratum: Stratum, candidate: Imputed | None, stable: Imputed | None) -> Stratum:
    """Only where some labels of mature requests are not in."""
    if candidate is None or stable is None or not any(one.every.n > one.rectifier.n for one in (candidate, stable)):
        return stratum
    return stratum.model_copy(update={"candidate_imputed": candidate, "stable_imputed": stable})


def stratum_points(stratum: Stratum, part: str = "") -> Iterator[DataPoint]:
    """Of one slice, or of all requests."""
    for side in SIDES:
        labels = {"route": side, "window": stratum.window}
        losses: Moments = getattr(stratum, side)
        imputed: Imputed | None = getattr(stratum, f"{side}_imputed")
        yield from sums("loss", labels | {"slice": part}, losses)
        if imputed:
            yield from sums("imputed", labels, imputed.every)
            yield from sums("rectifier", labels, imputed.rectifier)


def strata_of(points: PointIndex, part: str = "") -> tuple[Stratum, ...]:
    """Of one slice, or of all requests; those that both sides have."""
    windows = points.values_of("window", "loss_count", slice=part)
    strata = (_stratum(points, window, part) for window in windows)
    return tuple(stratum for stratum in strata if stratum)


def _stratum(points: PointIndex, window: str, part: str) -> Stratum | None:
    candidate, stable = (points.moments("loss", route=side, window=window, slice=part) for side in SIDES)
    if candidate is None or stable is None:
        return None
    ours, theirs = (None if part else _imputed_of(points, side, window) for side in SIDES)
    return Stratum(window=window, candidate=candidate, stable=stable, candidate_imputed=ours, stable_imputed=theirs)


def _imputed_of(points: PointIndex, side: str, window: str) -> Imputed | None:
    every, rectifier = (points.moments(name, route=side, window=window) for name in ("imputed", "rectifier"))
    return Imputed(every=every, rectifier=rectifier) if every and rectifier else None


def _strata_to_points(evidence: Evidence) -> Iterator[DataPoint]:
    for stratum in evidence.strata:
        yield from stratum_points(stratum)


LABELS = Measurement(
    "labels",
    "Labels that are due and in, and loss; window empty: an arm's whole cohort; slice empty: all requests.",
    _from_rows,
    _from_points,
    _to_points,
    ("labels", "loss"),
)
DELAYS = Measurement(
    "label_delay_seconds",
    "From each prediction to its label, of the labels that are in; counted anew each time.",
    lambda rows: {side: {"delays": label_delays(cohort)} for side, cohort in rows.cohort.items()},
    lambda _: {},  # for people who watch: no rule reads it
    _delay_points,
    histogram=True,
)
STRATA = Measurement(
    "strata",
    "Loss in one window, and the parts of the prediction-powered mean where labels are missing.",
    _strata_from_rows,
    lambda points: {"strata": strata_of(points)},
    _strata_to_points,
    ("loss", "imputed", "rectifier"),
)
