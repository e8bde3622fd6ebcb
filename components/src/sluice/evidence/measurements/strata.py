"""Log loss of both arms window by window: within one, chance alone decided who answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

import polars as pl

from sluice.documents.evidence import SIDES, Evidence, Imputed, Moments, Stratum
from sluice.evidence.measurements.measurement import Measurement, Part, StageRows
from sluice.evidence.measurements.points import DataPoint, PointIndex, sums
from sluice.evidence.moments import moments_by

_Keyed = Mapping[tuple[str, ...], Moments]


def strata_by(candidate: _Keyed, stable: _Keyed) -> Iterator[tuple[tuple[str, ...], Stratum]]:
    """Keys, whose last part is the window, and strata: those in which both arms have two losses."""
    for key in sorted(candidate.keys() & stable.keys()):
        if min(candidate[key].n, stable[key].n) > 1:
            yield key, Stratum(window=key[-1], candidate=candidate[key], stable=stable[key])


def _from_rows(rows: StageRows) -> Part:
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


def _to_points(evidence: Evidence) -> Iterator[DataPoint]:
    for stratum in evidence.strata:
        yield from stratum_points(stratum)


MEASUREMENT = Measurement(
    "strata",
    "Log loss in one window, and the parts of the prediction-powered mean where labels are missing.",
    _from_rows,
    lambda points: {"strata": strata_of(points)},
    _to_points,
    ("loss", "imputed", "rectifier"),
)
