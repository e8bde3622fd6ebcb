"""What the data looked like over time: counts a week, small enough to keep beside a run."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from sluice.content import write_json


def write_data_picture(span: pl.DataFrame, path: Path) -> None:
    """
    Write ``{"weeks": [{start, split, rows, labelled, positives}]}`` to ``path`` (``data.json`` of a chapter).

    Args:
        span: columns ``event_time`` (Datetime UTC), ``split`` (String), ``label`` (Int8, null where none came).
        path: where to; whole or not at all. Weeks start on Mondays, UTC.
    """
    weeks = (
        span.group_by(pl.col("event_time").dt.truncate("1w").dt.strftime("%Y-%m-%d").alias("start"), "split")
        .agg(
            rows=pl.len(),
            labelled=pl.col("label").is_not_null().sum(),
            positives=pl.col("label").cast(pl.Int64).sum(),
        )
        .sort("start", "split")
    )
    write_json(path, {"weeks": weeks.to_dicts()})
