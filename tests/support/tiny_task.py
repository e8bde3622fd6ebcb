"""A small task on a seeded synthetic table: will an order of a shop be returned?"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from sluice.tasks.recipe import Recipe
from sluice.tasks.task import Slice, Splits, Task

SHOPS = ("ash", "birch", "cedar", "elm", "oak", "pine")
_ROWS = 4000
_LIVE_ROWS = 1000
_SEED = 7
_START = datetime(2024, 1, 1, tzinfo=UTC)
_LIVE = datetime(2024, 4, 5, tzinfo=UTC)
_END = datetime(2024, 5, 1, tzinfo=UTC)


@functools.cache
def orders() -> pl.DataFrame:
    """
    All orders of four months in no order of time: 4000 rows and 20 exact duplicates, and 1000 more of the last month.

    A return is likelier for large amounts, late hours and some shops; one label in twenty never comes.
    """
    random = np.random.default_rng(_SEED)
    frame = _draw(random, _ROWS, _START, 0)
    return pl.concat([frame, frame.head(20), _draw(random, _LIVE_ROWS, _LIVE, _ROWS)])


def _draw(random: np.random.Generator, rows: int, start: datetime, first: int) -> pl.DataFrame:
    """``rows`` orders from ``start`` to the end, numbered from ``first``."""
    minutes = random.integers(0, int((_END - start) / timedelta(minutes=1)), rows)
    times = pl.Series([start + timedelta(minutes=int(minute)) for minute in minutes], dtype=pl.Datetime("us", "UTC"))
    shop = random.integers(0, len(SHOPS), rows)
    amount = np.round(random.lognormal(3.0, 0.6, rows), 2)
    hour = (minutes // 60) % 24
    logit = -2.2 + 0.03 * amount + 0.06 * hour + 0.35 * shop - 0.9
    label = pl.Series(random.random(rows) < 1 / (1 + np.exp(-logit))).cast(pl.Int8)
    known = pl.Series(random.random(rows) >= 0.05)
    frame = pl.DataFrame(
        {
            "example_id": [f"order-{row:05d}" for row in range(first, first + rows)],
            "event_time": times,
            "label_time": times + timedelta(hours=30),
            "label": label,
            "shop": [SHOPS[index] for index in shop],
            "amount": amount,
            "hour": pl.Series(hour, dtype=pl.Int64),
        }
    )
    return frame.with_columns(pl.when(known).then(pl.col(name)).alias(name) for name in ("label", "label_time"))


def read_examples(start: datetime, end: datetime) -> pl.DataFrame:
    """Orders with event times in ``[start, end)``."""
    return orders().filter(pl.col("event_time").is_between(start, end, closed="left"))


def read_feature_tables(start: datetime, end: datetime) -> Mapping[str, pl.DataFrame]:
    """``shop_history``: at every midnight, each shop's orders, mean amount and return rate over the past 14 days."""
    known = orders().unique(maintain_order=True)
    days = pl.datetime_range(start, end, "1d", eager=True, time_unit="us", closed="left")
    rows = [_history(known, day) for day in days]
    return {"shop_history": pl.concat(rows).sort("event_timestamp", "shop")}


def _history(known: pl.DataFrame, day: datetime) -> pl.DataFrame:
    recent = known.filter(pl.col("event_time").is_between(day - timedelta(days=14), day, closed="left"))
    labelled = pl.col("label").filter(pl.col("label_time") < day)
    counted = recent.group_by("shop").agg(
        pl.len().cast(pl.Int64).alias("shop_orders"),
        pl.col("amount").mean().alias("shop_mean_amount"),
        labelled.mean().cast(pl.Float64).alias("shop_return_rate"),
    )
    return counted.select(pl.lit(day).dt.cast_time_unit("us").alias("event_timestamp"), pl.all())


TASK = Task(
    name="tiny",
    title="Returned orders",
    question="Will this order be returned?",
    source_files=lambda: {"tiny_task.py": Path(__file__)},
    read_examples=read_examples,
    read_feature_tables=read_feature_tables,
    feature_service="tiny",
    entity_keys=("shop",),
    request_inputs={"amount": pl.Float64, "hour": pl.Int64},
    known_later=frozenset({"returned_at", "refund"}),
    schema_file=Path(__file__).with_name("tiny_schema.json"),
    slices=(
        Slice("shop", "shop"),
        Slice("hour_band", "CASE WHEN hour < 12 THEN 'morning' ELSE 'later' END"),
    ),
    baseline_keys=("shop", "hour"),
    splits=Splits(
        train=_START,
        tune=datetime(2024, 3, 1, tzinfo=UTC),
        test=datetime(2024, 3, 15, tzinfo=UTC),
        live=_LIVE,
        end=_END,
    ),
    recipe=Recipe(
        name="tiny",
        description="Amount, hour and the shop's history",
        features=("amount", "hour", "shop_orders", "shop_mean_amount", "shop_return_rate"),
        teacher=(16, 8),
        student=(8,),
        epochs=3,
        batch_size=64,
        variants=("teacher_f32", "student_f32", "student_int8"),
    ),
)


def with_examples(change: Callable[[pl.DataFrame], pl.DataFrame]) -> Task:
    """The task with its examples changed after reading."""
    return dataclasses.replace(TASK, read_examples=lambda start, end: change(read_examples(start, end)))


def with_some(rows: pl.DataFrame, name: str, value: object) -> pl.DataFrame:
    """The orders with this value in four of them."""
    four = rows.unique("example_id", keep="none")["example_id"].sort().head(4).to_list()
    some = pl.col("example_id").is_in(four)
    return rows.with_columns(pl.when(some).then(pl.lit(value)).otherwise(pl.col(name)).alias(name))
