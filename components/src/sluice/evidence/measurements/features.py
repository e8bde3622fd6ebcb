"""Served features: how far from those of training, and whether they are those that the training path reads."""

from __future__ import annotations

from collections.abc import Iterator

from sluice.data.divergence import divergence
from sluice.documents.evidence import Cells, Evidence, WrongCells
from sluice.evidence.measurements.measurement import Measurement, Part, StageRows
from sluice.evidence.measurements.points import DataPoint, PointIndex
from sluice.evidence.moments import rounded
from sluice.evidence.rows import refused


def _skew_from_rows(rows: StageRows) -> Part:
    vectors = rows.served["candidate" if rows.state.rollout else "stable"].filter(~refused())  # of these none is known
    if vectors.is_empty():
        return {"skew_n": 0, "skew": {}}
    vector, profiles = vectors["vector"].struct, rows.profiles
    skew = {name: rounded(divergence(profiles[name], vector.field(name))) for name in sorted(profiles)}
    return {"skew_n": vectors.height, "skew": skew}


def _skew_to_points(evidence: Evidence) -> Iterator[DataPoint]:
    yield DataPoint("skew_rows", {}, evidence.skew_n)
    for feature, distance in evidence.skew.items():
        yield DataPoint("skew", {"feature": feature}, distance)


def _skew_from_points(points: PointIndex) -> Part:
    skew = {feature: points.value("skew", feature=feature) for feature in points.values_of("feature", "skew")}
    return {"skew_n": points.count("skew_rows"), "skew": skew}


def _cells_to_points(evidence: Evidence) -> Iterator[DataPoint]:
    if evidence.cells:
        for name in ("compared", "different", "excluded"):
            yield DataPoint(f"cells_{name}", {}, getattr(evidence.cells, name))
        yield DataPoint("cells_other_tables", {}, int(evidence.cells.other_tables))
        for each in evidence.cells.wrong:
            yield DataPoint("cells_wrong", {"feature": each.feature}, each.different)


def _cells_from_points(points: PointIndex) -> Part:
    total, different, excluded = (points.count(f"cells_{name}") for name in ("compared", "different", "excluded"))
    others = bool(points.count("cells_other_tables"))
    names = points.values_of("feature", "cells_wrong")
    wrong = [WrongCells(feature=name, different=points.count("cells_wrong", feature=name)) for name in names]
    worst = tuple(sorted(wrong, key=lambda each: -each.different))
    cells = Cells(compared=total, different=different, excluded=excluded, other_tables=others, wrong=worst)
    return {"cells": cells if total or excluded else None}


SKEW = Measurement(
    "skew",
    "Divergence of each served feature from its training profile, and the requests that it is of.",
    _skew_from_rows,
    _skew_from_points,
    _skew_to_points,
    ("skew",),
)
CELLS = Measurement(
    "cells",
    "Served feature cells read again offline: the same, different, or not to be compared.",
    lambda rows: {"cells": rows.cells},
    _cells_from_points,
    _cells_to_points,
    ("cells",),
)
