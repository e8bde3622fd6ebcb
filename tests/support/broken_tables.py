"""Tables of the tiny task's one view that no join and no online store would take the same value from."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import polars as pl

from sluice.tasks.task import Task
from tests.support.tiny_task import TASK, read_feature_tables

Change = Callable[[pl.DataFrame], pl.DataFrame]
MOMENT = pl.col("event_timestamp")


def _twice(table: pl.DataFrame) -> pl.DataFrame:
    """One more row of a key and a time that are there, at the other end of the table."""
    return pl.concat([table.head(1).with_columns(shop_mean_amount=pl.lit(1e6)), table.reverse()])


def _first(name: str, value: object) -> Change:
    first = pl.int_range(pl.len()) == 0
    return lambda table: table.with_columns(pl.when(first).then(pl.lit(value)).otherwise(pl.col(name)).alias(name))


BROKEN: Mapping[str, tuple[Change, str]] = {
    "equal times": (_twice, r"gives two different rows with shop '\w+' at 2024-01-"),
    "naive times": (lambda t: t.with_columns(MOMENT.dt.replace_time_zone(None)), "type datetime.us, no zone., not"),
    "zoned times": (lambda t: t.with_columns(MOMENT.dt.convert_time_zone("Asia/Tokyo")), "type datetime.us, Asia/Tok"),
    "milliseconds": (
        lambda t: t.with_columns(MOMENT.dt.cast_time_unit("ms")),
        "type datetime.ms, UTC., not datetime.us",
    ),
    "nanoseconds": (
        lambda t: t.with_columns(MOMENT.dt.cast_time_unit("ns")),
        "type datetime.ns, UTC., not datetime.us",
    ),
    "dates": (lambda t: t.with_columns(MOMENT.dt.date()), "column 'event_timestamp' of .* has type date, not datetime"),
    "times in a text": (lambda t: t.with_columns(MOMENT.dt.to_string()), "has type string, not datetime.us, UTC"),
    "null times": (_first("event_timestamp", None), "has no 'event_timestamp' in 1 of"),
    "null keys": (_first("shop", None), "has no 'shop' in 1 of"),
    "integer keys": (lambda t: t.with_columns(shop=pl.lit(7)), "column 'shop' of .* has type int32, not string"),
    "categorical keys": (
        lambda t: t.with_columns(pl.col("shop").cast(pl.Categorical)),
        "has type categorical, not str",
    ),
    "no key": (lambda t: t.drop("shop"), "has no column 'shop'"),
    "no feature": (lambda t: t.drop("shop_orders"), "has no column 'shop_orders'"),
    "no times": (lambda t: t.drop("event_timestamp"), "has no column 'event_timestamp'"),
    "a float for an integer": (
        lambda t: t.with_columns(pl.col("shop_orders") + 0.5),
        "column 'shop_orders' of .* has type float64, not int64",
    ),
    "unsigned 64 bits": (lambda t: t.with_columns(pl.col("shop_orders").cast(pl.UInt64)), "has type uint64, not int64"),
    "a text for a float": (
        lambda t: t.with_columns(pl.col("shop_return_rate").cast(pl.String)),
        "has type string, not float64",
    ),
    "a flag for a float": (
        lambda t: t.with_columns(shop_return_rate=pl.lit(value=True)),
        "has type boolean, not float",
    ),
    "no type": (lambda t: t.with_columns(shop_return_rate=pl.lit(None)), "has type null, not float64"),
    "no rows": (lambda t: t.clear(), "has no rows"),
}
"""A change of the table by name, and what is said about it."""
INFINITE = _first("shop_mean_amount", float("-inf"))


@functools.cache
def history(start: datetime, end: datetime) -> pl.DataFrame:
    """The table as the task builds it."""
    return read_feature_tables(start, end)["shop_history"]


def with_table(change: Change) -> Task:
    """The tiny task, with its table changed after it was built."""

    def tables(start: datetime, end: datetime) -> Mapping[str, pl.DataFrame]:
        return {"shop_history": change(history(start, end))}

    return dataclasses.replace(TASK, read_feature_tables=tables)


def late(table: pl.DataFrame, moment: datetime, orders: int) -> pl.DataFrame:
    """The table with one more row for the oak, at a moment of the past."""
    row = table.filter(pl.col("shop") == "oak").tail(1)
    later = row.with_columns(
        shop_orders=pl.lit(orders, pl.Int64), event_timestamp=pl.lit(moment).dt.cast_time_unit("us")
    )
    return pl.concat([table, later])


TICK = timedelta(microseconds=1)
