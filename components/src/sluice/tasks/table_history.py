"""Features of a table's own past: of each key how many rows, their means, and how their labels were."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import polars as pl

HistoryFields = Mapping[str, type[pl.Int64] | type[pl.Float64]]


def view_of(key: str) -> str:
    """The feature view of a key."""
    return f"{key}_history"


def history_fields(key: str, numbers: tuple[str, ...], numeric_label: bool) -> HistoryFields:
    """
    Names and types of the features of a key's history, in their order.

    Args:
        numbers: inputs that are numbers.
        numeric_label: whether labels have a mean.
    """
    means = {f"{key}_mean_{name}": pl.Float64 for name in numbers}
    label = {f"{key}_mean_label": pl.Float64} if numeric_label else {}
    return {f"{key}_rows": pl.Int64, **means, **label}


def history(
    known: pl.DataFrame, key: str, fields: HistoryFields, start: datetime, end: datetime, length: timedelta
) -> pl.DataFrame:
    """
    A row each key and midnight in ``[start, end)``: what the rows of ``length`` before it were.

    Args:
        known: examples with ``event_time``, ``label_time``, ``label``, the key and inputs, of the time before too.

    Returns:
        ``event_timestamp``, the key, and ``fields``; only of keys that had a row. A label counts from when it is known.
    """
    first = start.replace(hour=0, minute=0, second=0, microsecond=0)
    days = pl.datetime_range(first, end, "1d", eager=True, time_unit="us", closed="left")
    tables = [_at(known.filter(pl.col(key).is_not_null()), key, fields, day, length) for day in days]
    if not tables:
        tables = [_at(known.clear(), key, fields, start, length)]
    return pl.concat(tables).sort("event_timestamp", key)


def _at(known: pl.DataFrame, key: str, fields: HistoryFields, day: datetime, length: timedelta) -> pl.DataFrame:
    recent = known.filter(pl.col("event_time").is_between(day - length, day, closed="left"))
    counts = [_expression(key, name).cast(kind).alias(name) for name, kind in fields.items()]
    there = pl.col("label").filter(pl.col("label_time") < day).mean().cast(pl.Float64)
    counts = [
        there.alias(f"{key}_mean_label") if name == f"{key}_mean_label" else each
        for name, each in zip(fields, counts, strict=True)
    ]
    moment = pl.lit(day).dt.cast_time_unit("us").alias("event_timestamp")
    return recent.group_by(key).agg(counts).select(moment, key, *fields)


def _expression(key: str, name: str) -> pl.Expr:
    if name == f"{key}_rows":
        return pl.len()
    return pl.col(name.removeprefix(f"{key}_mean_")).mean()
