"""Candidate against stable on the same request, in shadow: scores, losses, decisions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sluice.documents.evidence import SIDES, Evidence, Pairs, Share
from sluice.evidence.measurements.measurement import Measurement, Part, StageRows
from sluice.evidence.measurements.points import DataPoint, PointIndex, sums
from sluice.evidence.moments import moments
from sluice.evidence.rows import predictions_of


def _from_rows(rows: StageRows) -> Part:
    pairs = rows.pairs
    return {
        "pairs": Pairs(shift=moments(pairs["shift"]), loss=moments(pairs["difference"]), agreement=_agreement(rows))
    }


def _agreement(rows: StageRows) -> Share | None:
    same = decided_alike(rows)
    return None if same is None else Share(n=len(same), hits=int(same.sum()))


def decided_alike(rows: StageRows) -> NDArray[np.bool_] | None:
    """
    Of each pair whether both sides decide the same; ``None`` where there is no pair, a threshold is unknown, or the
    kind of target does not say.
    """
    pairs, sides = rows.pairs, [getattr(rows.state, side) or "" for side in SIDES]
    if pairs.is_empty() or not all(side in rows.thresholds for side in sides):
        return None
    ours, theirs = (predictions_of(pairs[name], rows.target) for name in ("score", "score_s"))
    first, second = (rows.thresholds[side] for side in sides)
    return rows.target.agreement(ours, theirs, (first, second))


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
