"""Validation of whole spans: the tiny task, and the flights with their committed schema."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from sluice.data.ingest import ingest, with_split
from sluice.data.span import EXAMPLES_FILE, read_span
from sluice.data.validate import REPORT_FILE, ValidationReport, require_valid, validate
from sluice.errors import BadArtifact, BadInput
from sluice.tasks.flights import TASK as FLIGHTS
from sluice.tasks.task import Task
from tests.support.tiny_task import TASK, with_examples


def _validated(task: Task, folder: Path) -> ValidationReport:
    ingest(task, folder / "span")
    return validate(task, folder / "span", folder / "validation")


def _fresh(column: str, value: pl.Expr) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Change a column from the start of the split test on."""
    changed = pl.when(pl.col("event_time") >= TASK.splits.test).then(value).otherwise(column)
    return lambda rows: rows.with_columns(changed.cast(rows.schema[column]).alias(column))


def test_a_sound_span_passes_and_its_report_is_kept(tmp_path: Path) -> None:
    report = _validated(TASK, tmp_path)
    assert report.passed
    assert report.anomalies == ()
    require_valid(report)
    written = (tmp_path / "validation" / REPORT_FILE).read_bytes()
    assert ValidationReport.model_validate_json(written) == report
    assert {compared.feature for compared in report.comparisons} == {"amount", "hour", "label", "shop"}
    for compared in report.comparisons:
        assert len(compared.bins) == len(compared.baseline) == len(compared.fresh)
        assert sum(compared.fresh) == pytest.approx(1)
        assert 0 <= compared.divergence < compared.limit
    assert report.statistics["train"].rows > report.statistics["test"].rows
    _validated(TASK, tmp_path)
    assert (tmp_path / "validation" / REPORT_FILE).read_bytes() == written


@pytest.mark.parametrize(
    ("change", "feature"),
    [
        (_fresh("amount", pl.col("amount") / 60), "amount"),
        (_fresh("label", 1 - pl.col("label")), "label"),
        (_fresh("shop", pl.lit("oak")), "shop"),
        (_fresh("hour", pl.col("hour") // 4), "hour"),
    ],
)
def test_a_fresh_split_that_changed_is_an_anomaly(
    change: Callable[[pl.DataFrame], pl.DataFrame], feature: str, tmp_path: Path
) -> None:
    report = _validated(with_examples(change), tmp_path)
    assert not report.passed
    assert [(anomaly.feature, anomaly.rule) for anomaly in report.anomalies] == [(feature, "divergence")]
    with pytest.raises(BadInput, match=rf"feature '{feature}'.*rule divergence; 1 anomaly in all"):
        require_valid(report)


def test_the_first_anomaly_and_their_count_are_named(tmp_path: Path) -> None:
    report = _validated(
        with_examples(lambda rows: rows.with_columns(amount=pl.col("amount") * 60, hour=pl.col("hour") + 1)), tmp_path
    )
    assert [(anomaly.feature, anomaly.rule) for anomaly in report.anomalies] == [("amount", "range"), ("hour", "range")]
    with pytest.raises(BadInput, match=r"feature 'amount'.*2 anomalies in all"):
        require_valid(report)


def test_an_empty_split_is_an_anomaly_not_a_crash(tmp_path: Path) -> None:
    report = _validated(with_examples(lambda rows: rows.filter(pl.col("event_time") < TASK.splits.test)), tmp_path)
    assert [(anomaly.feature, anomaly.rule) for anomaly in report.anomalies] == [("split=test", "rows")]
    assert report.comparisons == ()


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("splits", [("train",), ("tune",), ("test",), ("train", "tune", "test")])
def test_a_split_of_one_class_is_an_anomaly(label: int, splits: tuple[str, ...], tmp_path: Path) -> None:
    def change(rows: pl.DataFrame) -> pl.DataFrame:
        inside = pl.col("split").is_in(splits) & pl.col("label").is_not_null()
        changed = pl.when(inside).then(pl.lit(label, pl.Int8)).otherwise("label")
        return with_split(rows, TASK.splits).with_columns(changed.alias("label")).drop("split")

    report = _validated(with_examples(change), tmp_path)
    named = [(anomaly.feature, anomaly.observed) for anomaly in report.anomalies if anomaly.rule == "classes"]
    assert named == [(f"split={name}", f"only {label}") for name in splits]
    with pytest.raises(BadInput, match=r"feature 'split=.*all of them [01] \(rule classes"):
        require_valid(report)


def test_unknown_columns_and_other_types_are_anomalies(tmp_path: Path) -> None:
    odd = with_examples(lambda rows: rows.with_columns(pl.col("shop").cast(pl.Categorical).cast(pl.String), more=True))
    report = _validated(odd, tmp_path)
    assert [(anomaly.feature, anomaly.rule) for anomaly in report.anomalies] == [("more", "unknown_column")]


def test_a_damaged_span_or_schema_stops_validation(tmp_path: Path) -> None:
    ingest(TASK, tmp_path)
    with pytest.raises(BadInput, match=r"gone\.json: cannot be read"):
        validate(dataclasses.replace(TASK, schema_file=tmp_path / "gone.json"), tmp_path, tmp_path / "out")
    path = tmp_path / EXAMPLES_FILE
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadArtifact, match=EXAMPLES_FILE):
        validate(TASK, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """The flights' span, January to July."""
    folder = tmp_path_factory.mktemp("flights")
    ingest(FLIGHTS, folder)
    return read_span(folder)


def _flights_report(rows: pl.DataFrame, folder: Path) -> ValidationReport:
    columns = rows.drop("split")
    return _validated(dataclasses.replace(FLIGHTS, read_examples=lambda _start, _end: columns), folder)


def test_the_flights_satisfy_their_committed_schema(flights: pl.DataFrame, tmp_path: Path) -> None:
    report = _flights_report(flights, tmp_path)
    assert [anomaly.text for anomaly in report.anomalies] == []
    assert all(2 * compared.divergence < compared.limit for compared in report.comparisons)


_TEST = pl.col("split") == "test"
_TENTH = _TEST & (pl.int_range(pl.len()) % 9 == 0)


def _where(rows: pl.Expr, value: pl.Expr, column: str) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda frame: frame.with_columns(pl.when(rows).then(value).otherwise(column).alias(column))


@pytest.mark.parametrize(
    ("change", "feature"),
    [
        (_where(_TEST, pl.col("distance") * 1.609344, "distance"), "distance"),
        (_where(_TEST, pl.col("scheduled_elapsed") * 60, "scheduled_elapsed"), "scheduled_elapsed"),
        (_where(_TEST, pl.col("scheduled_elapsed") + 30, "scheduled_elapsed"), "scheduled_elapsed"),
        (_where(_TEST, 1 - pl.col("label"), "label"), "label"),
        (_where(_TENTH, pl.lit("UNKNOWN"), "tailnum"), "tailnum"),
        (_where(pl.lit(value=True), pl.col("scheduled_departure") * 60, "scheduled_departure"), "scheduled_departure"),
        (lambda rows: rows.filter(~(_TEST & (pl.col("origin") == "LGA"))), "origin"),
        (lambda rows: rows.filter(~(_TEST & (pl.col("carrier") == "WN"))), "carrier"),
        (lambda rows: rows.with_columns(pl.col("tailnum").str.to_lowercase()), "tailnum"),
    ],
)
def test_flights_that_were_spoilt_are_caught_by_the_feature(
    flights: pl.DataFrame, change: Callable[[pl.DataFrame], pl.DataFrame], feature: str, tmp_path: Path
) -> None:
    report = _flights_report(change(flights), tmp_path)
    assert feature in {anomaly.feature for anomaly in report.anomalies}
    with pytest.raises(BadInput):
        require_valid(report)
