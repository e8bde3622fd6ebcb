"""
The event streams behind the feature views of the flights task.

Every row's ``event_timestamp`` is the moment from which its values may be used, and everything it is made of happened
before that moment. Fast tables live on a grid of 30 minutes, slow ones change once a day in the small hours.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import polars as pl

from sluice.tasks.flights_source import flights, planes, weather

GRID = "30m"
"""Fast values that become known during an interval of this length are published at its end."""
ACTIVITY_STEPS = 4
"""Steps of the grid that an airport's activity looks back on: two hours."""
PRIOR_RATE = 0.25
PRIOR_FLIGHTS = 5.0
"""Rates are pulled towards the share of late flights in January to April, as if this many more had been seen."""
_LATE_DEPARTURE_MINUTES = 15
_DAY_BOUNDARY = "5h"
"""UTC time of day at which daily values change: midnight in New York."""


def feature_tables(start: datetime, end: datetime) -> Mapping[str, pl.DataFrame]:
    """
    One frame a stored feature view: its entity key, its values (Float64), and ``event_timestamp`` in ``[start, end)``.

    Values look back before ``start`` as far as the source goes.
    """
    known = flights()
    tables = {
        "weather": _weather(),
        "airport_activity": _airport_activity(known),
        "carrier_history": _carrier_history(known),
        "route_history": _history(known, "route", 28, "route"),
        "plane_history": _history(known.filter(pl.col("tailnum") != "UNKNOWN"), "tailnum", 28, "plane"),
        "plane": _plane(known),
        "previous_leg": _previous_leg(known),
    }
    within = pl.col("event_timestamp").is_between(start, end, closed="left")
    return {
        name: table.filter(within).sort("event_timestamp", table.columns[0], maintain_order=True)
        for name, table in tables.items()
    }


def published_at(moment: str) -> pl.Expr:
    """The grid point after the half hour in which something happened: always later than the moment itself."""
    return pl.col(moment).dt.truncate(GRID) + timedelta(minutes=30)


def _weather() -> pl.DataFrame:
    observed = weather()
    values = [name for name in observed.columns if name not in {"origin", "observed_at"}]
    return observed.select("origin", *values, event_timestamp=pl.col("observed_at") + timedelta(hours=1))


def _airport_activity(known: pl.DataFrame) -> pl.DataFrame:
    """Departures of the last two hours, and what should have left in them and has not."""
    left = known.filter(pl.col("departed_at").is_not_null())
    gone = left.group_by("origin", event_timestamp=published_at("departed_at")).agg(
        departures=pl.len(),
        delay=pl.col("dep_delay").sum(),
        late=(pl.col("dep_delay") >= _LATE_DEPARTURE_MINUTES).sum(),
    )
    due = known.group_by("origin", event_timestamp=published_at("departure")).agg(due=pl.len())
    on = ["origin", "event_timestamp"]
    grid = _grid(known).join(gone, on=on, how="left").join(due, on=on, how="left").fill_null(0)
    columns = ["departures", "delay", "late", "due"]
    summed = grid.sort("origin", "event_timestamp").with_columns(
        pl.col(columns).rolling_sum(ACTIVITY_STEPS, min_samples=1).over("origin")
    )
    waiting = summed.join(_overdue(known), on=on, how="left").with_columns(pl.col("overdue").fill_null(0))
    return waiting.select(
        "origin",
        airport_delay_mean=_ratio("delay", "departures"),
        airport_late_share=_ratio("late", "departures"),
        airport_departures=pl.col("departures").cast(pl.Float64),
        airport_overdue_share=_ratio("overdue", "due"),
        event_timestamp="event_timestamp",
    )


def _grid(known: pl.DataFrame) -> pl.DataFrame:
    """Every origin at every grid point of the source's year."""
    day = pl.col("departure").dt.truncate("1d")
    points = known.select(event_timestamp=pl.datetime_range(day.min(), day.max() + timedelta(days=2), GRID))
    return known.select(pl.col("origin").unique().sort()).join(points, how="cross")


def _overdue(known: pl.DataFrame) -> pl.DataFrame:
    """At each grid point, the flights that were due to leave in the two hours before it and had not."""
    steps = pl.DataFrame({"step": range(ACTIVITY_STEPS)}, schema={"step": pl.Int64})
    points = known.select("origin", "departed_at", event_timestamp=published_at("departure")).join(steps, how="cross")
    points = points.with_columns(pl.col("event_timestamp") + pl.duration(minutes=pl.col("step") * 30))
    still = pl.col("departed_at").is_null() | (pl.col("departed_at") >= pl.col("event_timestamp"))
    return points.filter(still).group_by("origin", "event_timestamp").agg(overdue=pl.len())


def _carrier_history(known: pl.DataFrame) -> pl.DataFrame:
    week, month = _history(known, "carrier", 7, "carrier"), _history(known, "carrier", 28, "carrier")
    rates = week.join(month, on=["carrier", "event_timestamp"])
    return rates.select("carrier", "carrier_late_rate_7d", "carrier_late_rate_28d", "event_timestamp")


def _history(known: pl.DataFrame, key: str, days: int, prefix: str) -> pl.DataFrame:
    """
    Late rate and number of landings in the ``days`` days before a day boundary, on the boundaries after a landing.

    The rate is ``(late + 5 × 0.25) / (landed + 5)``. A key without landings keeps its last row until that expires.
    """
    day = pl.col("landed_at").dt.truncate("1d").alias("day")
    shifted = known.filter(pl.col("landed_at").is_not_null()).with_columns(pl.col("landed_at").dt.offset_by("-5h"))
    daily = shifted.group_by(key, day).agg(landed=pl.len(), late=pl.col("late").cast(pl.Int64).sum()).sort(key, "day")
    window = daily.rolling("day", period=f"{days}d", group_by=key).agg(pl.col("landed").sum(), pl.col("late").sum())
    rate = (pl.col("late") + PRIOR_FLIGHTS * PRIOR_RATE) / (pl.col("landed") + PRIOR_FLIGHTS)
    return window.select(
        key,
        rate.alias(f"{prefix}_late_rate_{days}d"),
        pl.col("landed").cast(pl.Float64).alias(f"{prefix}_flights_{days}d"),
        (pl.col("day").dt.offset_by("1d") + timedelta(hours=5)).alias("event_timestamp"),
    )


def _plane(known: pl.DataFrame) -> pl.DataFrame:
    """What the registry of planes says, known since the first day."""
    first = known["departure"].dt.truncate("1d").min()
    return planes().with_columns(event_timestamp=pl.lit(first).dt.offset_by(_DAY_BOUNDARY).dt.cast_time_unit("us"))


def _previous_leg(known: pl.DataFrame) -> pl.DataFrame:
    """The last leg that a plane flew from New York, from the grid point after it landed."""
    landed = known.filter(pl.col("landed_at").is_not_null() & (pl.col("tailnum") != "UNKNOWN"))
    return (
        landed.sort("landed_at", "departure")
        .select(
            "tailnum",
            previous_arr_delay=pl.col("arr_delay").cast(pl.Float64),
            previous_dep_delay=pl.col("dep_delay").cast(pl.Float64),
            previous_landed_at=(pl.col("landed_at").dt.epoch("s") / 60).cast(pl.Float64),
            previous_elapsed=pl.col("elapsed").cast(pl.Float64),
            event_timestamp=published_at("landed_at"),
        )
        .unique(["tailnum", "event_timestamp"], keep="last", maintain_order=True)
    )


def _ratio(part: str, whole: str) -> pl.Expr:
    """A quotient that is null where there is nothing to divide by."""
    return pl.when(pl.col(whole) > 0).then(pl.col(part) / pl.col(whole))
