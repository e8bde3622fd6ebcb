"""Schemas and anomalies: what is inferred holds, what is broken is named with the numbers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from sluice.content import write_json
from sluice.data.anomalies import Anomaly, find_anomalies
from sluice.data.divergence import profiles_of
from sluice.data.ingest import with_split
from sluice.data.schema import FeatureRule, Schema, infer_schema, read_schema, write_schema
from sluice.data.statistics import statistics
from sluice.errors import BadInput
from tests.support.tiny_task import TASK, read_examples

_SPLITS = TASK.splits
_WINDOW = (_SPLITS.train, _SPLITS.live)


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    """The span of the tiny task."""
    return with_split(read_examples(*_WINDOW).unique(maintain_order=True), _SPLITS)


@pytest.fixture(scope="module")
def schema() -> Schema:
    """The committed schema of the tiny task."""
    return read_schema(TASK.schema_file)


def _first(column: str, value: object) -> pl.Expr:
    return pl.when(pl.int_range(pl.len()) == 0).then(pl.lit(value)).otherwise(column).alias(column)


def test_an_inferred_schema_holds_for_its_frame_and_survives_the_file(frame: pl.DataFrame, tmp_path: Path) -> None:
    inferred = infer_schema(frame)
    train, fresh = (frame.filter(pl.col("split") == name) for name in ("train", "test"))
    compared = [name for name, rule in inferred.features.items() if rule.max_divergence is not None]
    assert compared == ["label", "shop", "amount", "hour"]
    assert find_anomalies(frame, inferred, None, window=_WINDOW) == ()
    assert find_anomalies(fresh, inferred, profiles_of(train, compared)) == ()
    write_schema(inferred, tmp_path / "schema.json")
    assert read_schema(tmp_path / "schema.json") == inferred


def test_an_inferred_schema_bounds_what_it_saw(frame: pl.DataFrame) -> None:
    features = infer_schema(frame).features
    assert features["shop"].domain == ("ash", "birch", "cedar", "elm", "oak", "pine")
    assert features["label"].domain == (0, 1)
    assert 0.85 < features["label"].presence < 0.95
    assert features["event_time"].presence == 1
    assert features["amount"].minimum == 0
    assert features["example_id"].pattern is not None
    assert features["example_id"].longest == 11
    with pytest.raises(BadInput, match="no rows"):
        infer_schema(frame.clear())


def test_a_sound_frame_has_no_anomaly(frame: pl.DataFrame, schema: Schema) -> None:
    assert find_anomalies(frame, schema, None, window=_WINDOW) == ()


_BROKEN: list[tuple[Callable[[pl.DataFrame], pl.DataFrame], str, str, str, str]] = [
    (lambda rows: rows.drop("amount"), "amount", "missing_column", "no such column", "float64"),
    (lambda rows: rows.with_columns(extra=1), "extra", "unknown_column", "int32", "no such column"),
    (lambda rows: rows.with_columns(pl.col("hour").cast(pl.Int32)), "hour", "type", "int32", "int64"),
    (lambda rows: rows.with_columns(_first("hour", 24)), "hour", "range", "1 of 3112 values", "[0, 23]"),
    (lambda rows: rows.with_columns(_first("amount", -0.5)), "amount", "range", "example -0.5", "[0, 500]"),
    (
        lambda rows: rows.with_columns(_first("amount", float("nan"))),
        "amount",
        "finite",
        "example nan",
        "a finite number",
    ),
    (
        lambda rows: rows.with_columns(_first("amount", float("inf"))),
        "amount",
        "finite",
        "example inf",
        "a finite number",
    ),
    (lambda rows: rows.with_columns(_first("amount", None)), "amount", "presence", "0.9997", "at least 1"),
    (lambda rows: rows.with_columns(_first("shop", "fir")), "shop", "domain", "example 'fir'", "{ash, birch, cedar"),
    (lambda rows: rows.with_columns(_first("label", 2).cast(pl.Int8)), "label", "domain", "example 2", "{0, 1}"),
    (lambda rows: rows.with_columns(_first("example_id", "order 1")), "example_id", "pattern", "order 1", "^order-"),
    (
        lambda rows: rows.with_columns(pl.when(pl.col("hour") < 6).then("label").alias("label")),
        "label",
        "presence",
        "0.2",
        "at least 0.89",
    ),
    (
        lambda rows: rows.with_columns(_first("event_time", _SPLITS.live)),
        "event_time",
        "window",
        "example 2024-04-05T00:00:00Z",
        "[2024-01-01T00:00:00Z, 2024-04-05T00:00:00Z)",
    ),
    (
        lambda rows: rows.with_columns(pl.col("label_time") - timedelta(hours=31)),
        "label_time",
        "order",
        "rows before event_time",
        "label_time >= event_time",
    ),
    (lambda rows: pl.concat([rows, rows.head(2)]), "example_id", "unique", "2 repeated", "no repeated value"),
    (lambda rows: rows.head(99), "(span)", "rows", "99", "at least 100"),
]


@pytest.mark.parametrize("broken", _BROKEN)
def test_a_broken_rule_is_named_with_what_was_seen_and_what_is_allowed(
    frame: pl.DataFrame, schema: Schema, broken: tuple[Callable[[pl.DataFrame], pl.DataFrame], str, str, str, str]
) -> None:
    change, feature, rule, observed, expected = broken
    anomalies = find_anomalies(change(frame), schema, None, window=_WINDOW)
    found = [anomaly for anomaly in anomalies if anomaly.feature == feature]
    assert [anomaly.rule for anomaly in found] == [rule]
    (anomaly,) = found
    assert observed in anomaly.observed
    assert expected in anomaly.expected
    assert anomaly.text.endswith(".")
    assert "\n" not in anomaly.text
    if feature != "(span)":
        assert repr(feature) in anomaly.text


def _one(column: pl.Series, rule: FeatureRule) -> list[Anomaly]:
    lone = Schema(features={column.name: rule}, unique=(), order=())
    return list(find_anomalies(column.to_frame(), lone, None))


def test_a_share_of_unseen_values_may_be_allowed() -> None:
    rule = FeatureRule(type="string", domain=("a", "b"), unseen_share=0.1)
    assert _one(pl.Series("x", ["a"] * 9 + ["z"]), rule) == []
    (found,) = _one(pl.Series("x", ["a"] * 8 + ["z"] * 2), rule)
    assert found.rule == "domain"
    assert found.expected == "at most 10.00% outside {a, b}"


def test_open_domains_are_held_by_pattern_and_length() -> None:
    rule = FeatureRule(type="string", pattern="^N[0-9]+$", longest=4)
    assert _one(pl.Series("x", ["N1", "N123"]), rule) == []
    assert [anomaly.rule for anomaly in _one(pl.Series("x", ["N1", "N1234", "n1"]), rule)] == ["pattern", "length"]


def test_every_distance_above_its_limit_is_an_anomaly(frame: pl.DataFrame, schema: Schema) -> None:
    train, fresh = (frame.filter(pl.col("split") == name) for name in ("train", "test"))
    baseline = profiles_of(train, ["amount", "shop", "label"])
    assert find_anomalies(fresh, schema, baseline) == ()
    changed = fresh.with_columns(amount=pl.col("amount") / 60, shop=pl.lit("ash"))
    found = {anomaly.feature: anomaly for anomaly in find_anomalies(changed, schema, baseline)}
    assert found.keys() == {"amount", "shop"}
    assert found["amount"].rule == "divergence"
    assert float(found["amount"].observed) > 0.5
    assert found["amount"].expected == "at most 0.1"


def test_a_schema_file_is_read_strictly(tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    with pytest.raises(BadInput, match=r"schema\.json: cannot be read"):
        read_schema(path)
    for text, message in (
        ('{"features"', "Invalid JSON"),
        ('{"features": {}, "feature": {}}', r"feature: Extra inputs"),
        ('{"features": {"x": {"type": "int8", "max": 1}}}', r"features\.x\.max: Extra inputs"),
        ('{"features": {"x": {"type": "int8", "presence": 1.5}}}', r"features\.x\.presence"),
        ('{"features": {"x": {"type": "int8", "minimum": 2, "maximum": 1}}}', r"features\.x: .*above maximum"),
        ('{"features": {"x": {"type": "string", "pattern": "("}}}', r"features\.x: .*no regular expression"),
        ('{"format": "sluice.schema/9", "features": {}}', "format"),
    ):
        path.write_text(text)
        with pytest.raises(BadInput, match=message):
            read_schema(path)


def test_statistics_say_what_is_there() -> None:
    found = statistics(
        pl.DataFrame(
            {
                "number": [1.0, 3.0, 0.0, float("nan"), None],
                "word": ["a", "bb", "a", None, "a"],
                "flag": [True, None, True, False, True],
                "nothing": pl.Series([None] * 5, dtype=pl.Float64),
            }
        )
    )
    number, word = found.columns["number"], found.columns["word"]
    assert found.rows == number.n == 5
    assert (number.nulls, number.not_finite, number.zeros) == (1, 1, 1)
    assert (number.minimum, number.maximum, number.quantiles[3]) == (0.0, 3.0, 1.0)
    assert number.mean == pytest.approx(4 / 3)
    assert (word.distinct, word.shortest, word.longest) == (2, 1, 2)
    assert word.top == (("a", 3), ("bb", 1))
    assert found.columns["flag"].top == (("true", 3), ("false", 1))
    assert found.columns["nothing"].nulls == 5
    assert statistics(pl.DataFrame({"x": []}, schema={"x": pl.Int64})).columns["x"].n == 0


@pytest.mark.parametrize("values", [[-1.7e308, 1.7e308], [1.7e308] * 3, [1.7e308, 1.6e308, 0.0], [5e-324, 0.0]])
def test_the_largest_and_smallest_numbers_have_statistics_and_a_schema(values: list[float], tmp_path: Path) -> None:
    frame = pl.DataFrame({"x": values})
    found = statistics(frame).columns["x"]
    assert found.mean == pytest.approx(sum(value / len(values) for value in values))
    assert found.deviation is not None
    assert found.deviation <= max(values)
    write_json(tmp_path / "statistics.json", found.model_dump(mode="json"))
    schema = infer_schema(frame)
    write_schema(schema, tmp_path / "schema.json")
    assert read_schema(tmp_path / "schema.json") == schema
    assert find_anomalies(frame, schema, profiles_of(frame, ["x"])) == ()


@pytest.mark.parametrize(
    ("name", "clock"),
    [
        ("minutes", pl.col("event_time").dt.epoch("s") // 60),
        ("counter", pl.int_range(pl.len())),
        ("left", -pl.col("event_time").dt.epoch("s").cast(pl.Float64)),
        ("day", pl.col("event_time").dt.ordinal_day()),
    ],
)
def test_a_number_that_goes_with_time_is_not_compared(frame: pl.DataFrame, name: str, clock: pl.Expr) -> None:
    rule = infer_schema(frame.sort("event_time").with_columns(clock.alias(name))).features[name]
    assert rule.max_divergence is None
    assert rule.minimum is not None


def test_a_label_is_of_two_classes_though_only_one_was_seen(frame: pl.DataFrame) -> None:
    assert infer_schema(frame.filter(pl.col("label") == 0)).features["label"].domain == (0, 1)
