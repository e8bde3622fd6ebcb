"""Candidate against stable on the same request, in shadow: scores, losses, decisions."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from sluice.documents.evidence import Evidence, Pairs, Share
from sluice.evidence.measurements.measurement import Measurement, Part, StageRows
from sluice.evidence.measurements.points import DataPoint, PointIndex, sums
from sluice.evidence.moments import moments


def _from_rows(rows: StageRows) -> Part:
    pairs = rows.pairs
    shift = moments((pairs["score"] - pairs["score_s"]).abs())
    return {"pairs": Pairs(shift=shift, loss=moments(pairs["difference"]), agreement=_agreement(rows))}


def _agreement(rows: StageRows) -> Share | None:
    same = decided_alike(rows)
    return None if same is None else Share(n=len(same), hits=int(same.sum()))


def decided_alike(rows: StageRows) -> pl.Series | None:
    """Of each pair whether both sides decide the same; ``None`` where there is no pair, or a threshold is unknown."""
    pairs, state = rows.pairs, rows.state
    candidate, stable = (rows.thresholds.get(digest or "") for digest in (state.candidate, state.stable))
    if pairs.is_empty() or candidate is None or stable is None:
        return None
    return (pairs["score"] >= candidate) == (pairs["score_s"] >= stable)


def _to_points(evidence: Evidence) -> Iterator[DataPoint]:
    pairs = evidence.pairs
    yield from sums("pair_loss", {"slice": ""}, pairs.loss)
    yield from sums("pair_shift", {}, pairs.shift)
    if pairs.agreement:
        yield DataPoint("agreement_pairs", {}, pairs.agreement.n)
        yield DataPoint("agreement_same", {}, pairs.agreement.hits)


def _from_points(points: PointIndex) -> Part:
    agreement = points.share("agreement_pairs", "agreement_same")
    return {"pairs": Pairs(shift=points.moments("pair_shift"), loss=points.moments("pair_loss"), agreement=agreement)}


MEASUREMENT = Measurement(
    "pairs",
    "Candidate against stable on the same request, in shadow.",
    _from_rows,
    _from_points,
    _to_points,
    ("pair", "agreement"),
)
