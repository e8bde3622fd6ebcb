"""What the data looked like over time: counts a week, small enough to keep beside a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from sluice.content import write_json
from sluice.targets.kind import TargetKind

_TENTHS = (0.1, 0.5, 0.9)


def write_data_picture(span: pl.DataFrame, path: Path, target: TargetKind) -> None:
    """
    Write ``{"weeks": [{start, split, rows, labelled, ...}]}`` to ``path`` (``data.json`` of a chapter).

    A week also has what the target counts of its labels: ``positives``, or ``by_label``, the rows of each label; of
    labels that are numbers their ``quantiles`` 0.1, 0.5 and 0.9.

    Args:
        span: columns ``event_time`` (Datetime UTC), ``split`` (String), ``label`` (null where none came).
        path: where to; whole or not at all. Weeks start on Mondays, UTC.
        target: says what labels are.
    """
    week = pl.col("event_time").dt.truncate("1w").dt.strftime("%Y-%m-%d").alias("start")
    weeks = [
        {"start": start, "split": split, "rows": rows.height, **_labels(rows["label"].drop_nulls(), target)}
        for (start, split), rows in span.group_by(week, "split")
    ]
    write_json(path, {"weeks": sorted(weeks, key=lambda one: (one["start"], one["split"]))})


def _labels(labels: pl.Series, target: TargetKind) -> dict[str, Any]:
    codes = target.codes(labels)
    positives = target.positives(codes)
    if positives is not None:
        return {"labelled": len(labels), "positives": positives}
    if by_label := {name: len(rows) for name, rows in target.slices(codes)}:
        return {"labelled": len(labels), "by_label": by_label}
    if labels.dtype.is_numeric() and len(labels):
        return {"labelled": len(labels), "quantiles": [labels.quantile(at, "linear") for at in _TENTHS]}
    return {"labelled": len(labels)}
