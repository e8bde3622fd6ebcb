"""The same comparison in every slice: a candidate that is broken for one shop only is broken."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import polars as pl

from sluice.documents.evidence import SIDES, Evidence, Share, SliceEvidence, Stratum
from sluice.evidence.measurements.losses import strata_by, strata_of, stratum_points
from sluice.evidence.measurements.measurement import Measurement, Part, StageRows
from sluice.evidence.measurements.points import DataPoint, PointIndex, sums
from sluice.evidence.moments import moments_by
from sluice.evidence.rows import failed, slice_column


def _from_rows(rows: StageRows) -> Part:
    """By ``name=value``, in order of the slices and of their values."""
    columns = {each.name: slice_column(each) for each in rows.slices}
    return {
        "slices": {
            f"{name}={value}": evidence for name, column in columns.items() for value, evidence in _slice(rows, column)
        }
    }


def _slice(rows: StageRows, column: str) -> Iterator[tuple[str, SliceEvidence]]:
    candidate, stable = (_failures(rows.served[side], column) for side in SIDES)
    losses = (moments_by(rows.cohort[side], [column, "window"], "loss") for side in SIDES)
    pairs, strata = moments_by(rows.pairs, [column], "difference"), defaultdict[str, list[Stratum]](list)
    for (value, _), stratum in strata_by(*losses):
        strata[value].append(stratum)
    for value in sorted({*candidate, *stable}):
        yield (
            value,
            SliceEvidence(
                candidate=candidate.get(value),
                stable=stable.get(value),
                strata=tuple(strata[value]),
                pairs=pairs.get((value,)),
            ),
        )


def _failures(rows: pl.DataFrame, column: str) -> dict[str, Share]:
    counts = rows.drop_nulls(column).group_by(column).agg(n=pl.len(), hits=failed().sum())
    return {value: Share(n=n, hits=hits) for value, n, hits in counts.iter_rows()}


def _to_points(evidence: Evidence) -> Iterator[DataPoint]:
    for name, part in evidence.slices.items():
        for side in SIDES:
            if share := part.candidate if side == "candidate" else part.stable:
                yield DataPoint("slice_requests", {"route": side, "slice": name}, share.n)
                yield DataPoint("slice_errors", {"route": side, "slice": name}, share.hits)
        for stratum in part.strata:
            yield from stratum_points(stratum, name)
        yield from sums("pair_loss", {"slice": name}, part.pairs)


def _from_points(points: PointIndex) -> Part:
    return {"slices": {name: _slice_of(points, name) for name in points.values_of("slice", "slice_requests")}}


def _slice_of(points: PointIndex, name: str) -> SliceEvidence:
    candidate, stable = (points.share("slice_requests", "slice_errors", route=side, slice=name) for side in SIDES)
    pairs = points.moments("pair_loss", slice=name)
    return SliceEvidence(candidate=candidate, stable=stable, strata=strata_of(points, name), pairs=pairs)


MEASUREMENT = Measurement(
    "slices",
    "Requests and failures of one slice; its losses are those of all requests with its name.",
    _from_rows,
    _from_points,
    _to_points,
    ("slice",),
)
