"""The commands that look at data: files in and out, and the three exit codes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tensorflow_metadata.proto.v0 import anomalies_pb2

from sluice.data.contract.schema_file import read_schema_message, write_schema_message
from sluice.data.contract.source import read_any_schema
from sluice.data.ingest import ingest
from sluice.data.validate import validate
from sluice.tasks.flights import TASK as FLIGHTS
from tests.support import command as commands
from tests.support.tiny_task import TASK

MONDAY = pl.DataFrame({"fare": [1.5, 2.5, 3.0], "city": ["ulm", "bonn", "ulm"], "paid": [1, 0, 1]})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    MONDAY.write_csv(tmp_path / "monday.csv")
    MONDAY.with_columns(city=pl.lit("rome"), fare=pl.col("fare") * 10).write_csv(tmp_path / "tuesday.csv")
    return tmp_path


def data(*arguments: str, folder: Path, code: int = 0) -> str:
    environment = {"SLUICE_HOME": str(folder), "PATH": "/usr/bin:/bin", "COLUMNS": "200"}
    done = commands.sluice("data", *arguments, env=environment, cwd=folder)
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stderr if code == 2 else done.stdout


def test_from_a_csv_to_a_schema_that_accepts_the_next_day(folder: Path) -> None:
    data("schema", "monday.csv", "-o", "s.pbtxt", folder=folder)
    assert "clean" in data("check", "monday.csv", "--schema", "s.pbtxt", folder=folder)
    found = json.loads(data("check", "tuesday.csv", "--schema", "s.pbtxt", "--json", folder=folder, code=1))
    assert [(each["type"], each["examples"]) for each in found["anomalies"]] == [
        ("ENUM_TYPE_UNEXPECTED_STRING_VALUES", ["rome"])
    ]
    lenient = ("--warning", "ENUM_TYPE_UNEXPECTED_STRING_VALUES", "-o", "a.pb")
    data("check", "tuesday.csv", "--schema", "s.pbtxt", *lenient, folder=folder)
    message = anomalies_pb2.Anomalies.FromString((folder / "a.pb").read_bytes())
    assert message.anomaly_info["city"].severity == anomalies_pb2.AnomalyInfo.WARNING
    diff = data("schema", "tuesday.csv", "--update", "s.pbtxt", "--accept", "city", "-o", "t.pbtxt", folder=folder)
    assert '+  value: "rome"' in diff
    data("check", "tuesday.csv", "--schema", "t.pbtxt", folder=folder)


def test_statistics_stand_for_their_tables(folder: Path) -> None:
    line = data("stats", "monday.csv", "tuesday.csv", "-o", "both.parquet", "--by", "city", folder=folder)
    assert line == "6 rows, 3 columns, 3 slices: both.parquet\n"
    assert "'rome' 3" in data("show", "both.parquet", folder=folder)
    assert data("show", "both.parquet", "--slice", "city_bonn", folder=folder).startswith("1 rows")
    data("schema", "both.parquet", "-o", "s.pbtxt", folder=folder)
    data("check", "monday.csv", "--schema", "s.pbtxt", "--previous", "both.parquet", folder=folder)


def test_tables_are_compared_by_every_score_of_their_type(folder: Path) -> None:
    text = data("compare", "monday.csv", "tuesday.csv", "--threshold", "0.5", "--json", folder=folder, code=1)
    scores = {each["path"][0]: each for each in json.loads(text)}
    assert scores["city"]["infinity_norm"] == scores["city"]["jensen_shannon_divergence"] == 1
    assert scores["city"]["chi_square_p_value"] < 0.05
    assert scores["fare"]["kolmogorov_smirnov"] == 1
    assert scores["fare"]["infinity_norm"] is None
    assert scores["paid"]["wasserstein"] == scores["paid"]["population_stability"] == 0
    data("compare", "monday.csv", "monday.csv", "--threshold", "0", folder=folder)


BAD: dict[str, tuple[str, ...]] = {
    "does not exist": ("check", "nowhere.csv", "--schema", "s.pbtxt"),
    "is not a schema": ("check", "monday.csv", "--schema", "monday.csv"),
    "is none of TFDV's": ("check", "monday.csv", "--schema", "s.pbtxt", "--note", "ODD"),
    "names nothing that was found": ("schema", "monday.csv", "--update", "s.pbtxt", "--accept", "odd"),
    "is not in the table": ("stats", "monday.csv", "-o", "a.pb", "--by", "odd"),
    "has no ending": ("stats", "monday.csv", "-o", "a.xml"),
    "holds no statistics": ("show", "empty.pb"),
    "is not there": ("show", "monday.csv", "--slice", "odd"),
    "inferred from no rows": ("schema", "rows.csv"),
    "no INT": ("check", "tuesday.csv", "--schema", "int.pbtxt"),
}


@pytest.mark.parametrize("rule", BAD)
def test_bad_input_is_one_line_and_code_2(rule: str, folder: Path) -> None:
    (folder / "s.pbtxt").write_text("feature { name: 'fare' type: FLOAT }")
    (folder / "int.pbtxt").write_text("feature { name: 'city' type: INT }")
    (folder / "rows.csv").write_text("a,b\n")
    (folder / "empty.pb").write_bytes(b"")
    line = data(*BAD[rule], folder=folder, code=2)
    assert rule in line
    assert line.count("\n") == 1


def test_the_committed_schema_of_the_flights_is_read_and_converted(folder: Path) -> None:
    schema = read_any_schema(FLIGHTS.schema_file)
    written = data("schema", str(FLIGHTS.schema_file), "-o", "flights.pbtxt", folder=folder)
    assert "not carried over" in written
    assert read_schema_message(folder / "flights.pbtxt") == schema
    features: dict[str, Any] = json.loads(FLIGHTS.schema_file.read_text())["features"]
    assert [feature.name for feature in schema.feature] == list(features)


def test_the_pipeline_holds_a_span_against_the_schema_beside_its_own(tmp_path: Path) -> None:
    committed = tmp_path / "tiny.json"
    committed.write_bytes(TASK.schema_file.read_bytes())
    task = dataclasses.replace(TASK, schema_file=committed)
    ingest(task, tmp_path / "span")
    assert validate(task, tmp_path / "span", tmp_path / "before").passed
    schema = read_any_schema(committed)
    schema.feature.add(name="split", type=1)
    write_schema_message(schema, tmp_path / "tiny.pbtxt")
    report = validate(task, tmp_path / "span", tmp_path / "sound")
    assert report.anomalies == ()
    next(each for each in schema.feature if each.name == "amount").float_domain.max = 1
    write_schema_message(schema, tmp_path / "tiny.pbtxt")
    report = validate(task, tmp_path / "span", tmp_path / "after")
    assert [(anomaly.feature, anomaly.rule) for anomaly in report.anomalies] == [("amount", "FLOAT_TYPE_BIG_FLOAT")]
