"""Spark and DuckDB join the same history to the same rows, cell by cell: values, types, nulls."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from sluice.features.cluster import CLUSTER, SPARK, cluster_store
from sluice.features.store import historical, plan_of
from sluice.tasks.flights import TASK as YEAR
from sluice.tasks.task import Splits, Task
from tests.support.tiny_task import TASK, read_examples, read_feature_tables

pytestmark = [
    pytest.mark.skipif(
        shutil.which("java") is None,
        reason="NOT CHECKED: there is no Java (Debian: apt-get install default-jre-headless)",
    ),
    pytest.mark.filterwarnings("ignore:The spark:RuntimeWarning"),
]
_TINY = Path(__file__).parents[1] / "support/tiny_feature_repo"
_FLIGHTS = Path(__file__).parents[2] / "feature_repo"


@pytest.fixture(scope="module", autouse=True)
def local_spark() -> Iterator[None]:
    """One Spark for all tests, in this process' zone of summer times, so that nothing leans on UTC by accident."""
    from pyspark.sql import SparkSession

    settings = {
        "spark.master": "local[2]",
        "spark.ui.enabled": "false",
        "spark.sql.session.timeZone": "America/New_York",
        "spark.sql.shuffle.partitions": "1",  # small tables: the time goes into planning and compiling
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.adaptive.enabled": "false",
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
    }
    builder = SparkSession.builder
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    yield
    session.stop()


def _history(config: str, task: Task, repo: Path, root: Path, rows: pl.DataFrame) -> pl.DataFrame:
    environment = {"SLUICE_REDIS": "127.0.0.1:1", "SLUICE_FEATURES": str(root), "SPARK_MASTER": "local[2]"}
    with cluster_store(repo, environment, config) as feast:
        # An amount over the smallest float is infinite, which a training set may not have.
        return historical(feast, plan_of(feast, task.service), rows, served=True)


def _write(root: Path, tables: dict[str, pl.DataFrame]) -> None:
    (root / "offline").mkdir(parents=True)
    for name, table in tables.items():
        table.write_parquet(root / "offline" / f"{name}.parquet")


def _assert_same(spark: pl.DataFrame, duckdb: pl.DataFrame) -> None:
    """Equal in every row, with a difference named by its column; nulls are equal to nulls alone."""
    assert spark.schema == duckdb.schema
    assert [name for name in duckdb.columns if not spark[name].eq_missing(duckdb[name]).all()] == []
    assert spark.equals(duckdb, null_equal=True)


def test_the_tiny_task_has_the_same_history(tmp_path: Path) -> None:
    _write(tmp_path, dict(read_feature_tables(TASK.splits.train, TASK.splits.end)))
    rows = read_examples(TASK.splits.train, TASK.splits.end).sample(300, seed=3, shuffle=True)
    duckdb = _history(CLUSTER, TASK, _TINY, tmp_path, rows)
    _assert_same(_history(SPARK, TASK, _TINY, tmp_path, rows), duckdb)
    assert 0 < duckdb["shop_orders"].null_count() < 60


def test_edges_of_time_and_of_numbers_are_the_same(tmp_path: Path) -> None:
    """A value's first and last microsecond, the hour that autumn has twice, integers beyond 2^53, NaN, null."""
    stamp = datetime(2024, 11, 3, 5, 30, tzinfo=UTC)  # 01:30 in New York, and again an hour later
    times = [stamp, stamp + timedelta(hours=1), stamp + timedelta(hours=2)]
    table = pl.DataFrame(
        {
            "event_timestamp": pl.Series(times, dtype=pl.Datetime("us", "UTC")),
            "shop": ["oak"] * 3,
            "shop_orders": pl.Series([2**60 + 1, None, -(2**63)], dtype=pl.Int64),
            "shop_mean_amount": [math.nan, 5e-324, -0.0],
            "shop_return_rate": [None, 0.1 + 0.2, 1.7976931348623157e308],
        }
    )
    _write(tmp_path, {"shop_history": table})
    tick = timedelta(microseconds=1)
    ends = [moment + offset for moment in times for offset in (-tick, timedelta(0), tick)]
    ends += [times[-1] + timedelta(days=3) + offset for offset in (-tick, timedelta(0), tick)]
    asked = pl.DataFrame(
        {
            "event_time": pl.Series(ends + ends[:1], dtype=pl.Datetime("us", "UTC")),
            "shop": ["oak"] * len(ends) + ["yew"],
            "amount": [1.0] * (len(ends) + 1),
        }
    )
    duckdb = _history(CLUSTER, TASK, _TINY, tmp_path, asked)
    assert duckdb["shop_orders"].to_list()[:2] == [None, 2**60 + 1]
    assert duckdb["shop_orders"].to_list()[-4:] == [-(2**63), -(2**63), None, None]
    _assert_same(_history(SPARK, TASK, _TINY, tmp_path, asked), duckdb)


def test_a_slice_of_flights_has_the_same_history(tmp_path: Path) -> None:
    start, end = datetime(2013, 1, 1, 5, tzinfo=UTC), datetime(2013, 1, 20, 5, tzinfo=UTC)
    splits = Splits(start, end, end, end, end)
    task = dataclasses.replace(YEAR, splits=splits)
    assert task.read_feature_tables
    _write(tmp_path, dict(task.read_feature_tables(start, end)))
    rows = task.read_examples(start, end).sample(250, seed=5, shuffle=True)
    duckdb = _history(CLUSTER, task, _FLIGHTS, tmp_path, rows)
    _assert_same(_history(SPARK, task, _FLIGHTS, tmp_path, rows), duckdb)
    assert sum(duckdb.height - duckdb[name].null_count() for name in duckdb.columns) > 3000
