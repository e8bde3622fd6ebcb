"""Labels of each arm: how many are due and in, how late they came, and the log loss that they say."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import polars as pl

from sluice.documents.evidence import LABEL_DELAY_BOUNDS_S, SIDES, Evidence
from sluice.evidence.measurements.measurement import Measurement, Part, StageRows
from sluice.evidence.measurements.points import DataPoint, PointIndex, sums
from sluice.evidence.moments import label_delays, moments


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


LABELS = Measurement(
    "labels",
    "Labels that are due and in, and log loss; window empty: an arm's whole cohort; slice empty: all requests.",
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
