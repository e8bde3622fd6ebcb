"""Statistics of tables: parts merge to the whole, and what is exact, estimated, null, NaN or empty is told apart."""

from __future__ import annotations

import math
import random
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sluice.data.census import number_table, text_table
from sluice.data.census.census import Census, census_of
from sluice.data.census.distances import (
    NumberCounts,
    chi_square,
    kolmogorov_smirnov,
    population_stability,
    population_stability_of_texts,
    wasserstein,
)
from sluice.data.census.exact_sum import as_fraction, exact_moments, exact_sum
from sluice.data.census.files import is_statistics, read_statistics, write_statistics
from sluice.data.census.messages import statistics_of
from sluice.data.census.number_table import NumberTable, keys_of, numbers_of
from sluice.data.census.tables import batches_of
from sluice.data.census.text_table import TextTable
from sluice.errors import BadInput

ROW = st.fixed_dictionaries(
    {
        "int": st.none() | st.integers(-5, 5),
        "float": st.none() | st.floats(width=64),
        "text": st.none() | st.sampled_from(["", "a", "b", "ä"]),
        "list": st.none() | st.lists(st.none() | st.integers(0, 3), max_size=3),
        "deep": st.none() | st.lists(st.none() | st.lists(st.integers(0, 3), max_size=2), max_size=2),
        "struct": st.none() | st.fixed_dictionaries({"x": st.none() | st.integers(0, 2)}),
        "day": st.sampled_from(["mon", "tue"]),
        "weight": st.sampled_from([0.0, 0.5, 2.0]),
    }
)
TYPES: dict[str, Any] = {
    "int": pl.Int64,
    "float": pl.Float64,
    "text": pl.String,
    "list": pl.List(pl.Int64),
    "deep": pl.List(pl.List(pl.Int64)),
    "struct": pl.Struct({"x": pl.Int64}),
    "day": pl.String,
    "weight": pl.Float64,
}


def framed(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=TYPES)


def counted(*frames: pl.DataFrame) -> Census:
    return census_of(frames, weight="weight", slices=["day"])


def written(census: Census) -> str:
    return str(text_format.MessageToString(statistics_of(census)))


def stats_by_name(frame: pl.DataFrame) -> dict[str, Any]:
    features = statistics_of(census_of([frame])).datasets[0].features
    return {feature.path.step[0]: feature for feature in features}


@given(st.lists(st.lists(ROW, max_size=6), min_size=1, max_size=4), st.randoms(use_true_random=False), st.data())
@settings(max_examples=12, deadline=None)
def test_merged_parts_equal_the_whole_in_every_order(
    parts: list[list[dict[str, Any]]], chance: random.Random, data: st.DataObject
) -> None:
    """Also where a part never saw a column: a part without any value of it lacks it now and then."""
    whole = counted(framed([row for part in parts for row in part]))
    frames = [framed(part) for part in parts]
    for place, frame in enumerate(frames):
        unseen = [name for name in ("int", "text", "list") if frame[name].null_count() == frame.height]
        frames[place] = frame.drop(data.draw(st.sets(st.sampled_from(unseen))) if unseen else ())
    frames.append(framed([]))
    chance.shuffle(frames)
    merged = counted(frames[0])
    for frame in frames[1:]:
        merged.merge(counted(frame))
    assert written(merged) == written(whole)


@given(st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False)), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_a_full_table_of_numbers_depends_on_the_numbers_alone(parts: list[list[float]]) -> None:
    patched = pytest.MonkeyPatch()
    patched.setattr(number_table, "CAPACITY", 4)
    try:
        whole, merged = NumberTable(), NumberTable()
        whole.add(np.array([value for part in parts for value in part], np.float64))
        for part in reversed(parts):
            table = NumberTable()
            table.add(np.array(part, np.float64))
            merged.merge(table)
    finally:
        patched.undo()
    assert merged.dropped == whole.dropped
    assert merged.keys.tolist() == whole.keys.tolist()
    assert merged.counts.tolist() == whole.counts.tolist()
    assert whole.keys.size <= 4


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=30))
@settings(max_examples=60, deadline=None)
def test_sums_are_exact(values: list[float]) -> None:
    array = np.array(values, np.float64)
    assert as_fraction(exact_sum(array)) == sum(map(Fraction, values))
    large = array[np.abs(array) > 1e-120]
    assert exact_moments(large) == (sum(map(Fraction, large)), sum(Fraction(value) ** 2 for value in large))
    assert exact_moments(large, np.full(large.size, 0.5))[0] == sum(map(Fraction, large)) / 2


@given(st.lists(st.floats(allow_nan=False), min_size=2))
@settings(max_examples=60, deadline=None)
def test_keys_keep_order_and_value(values: list[float]) -> None:
    array = np.array(values, np.float64)
    keys = keys_of(array)
    assert (numbers_of(keys) == array).all()
    order = np.argsort(keys, kind="stable")
    assert (np.diff(array[order]) >= 0).all() or np.isinf(array).any()


def test_quantiles_of_many_numbers_keep_the_error_that_is_told() -> None:
    values = np.random.default_rng(3).lognormal(sigma=2, size=60_000)
    table = NumberTable()
    for part in np.array_split(values, 7):
        table.add(part)
    assert table.dropped > 0
    assert 0 < table.rank_error < 0.005
    relative = np.abs(np.repeat(table.numbers(), table.counts) / np.sort(values) - 1)
    assert relative.max() < 2.0 ** (table.dropped - 52)


def test_frequent_texts_and_the_number_of_distinct_ones_keep_their_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_table, "CAPACITY", 2000)
    monkeypatch.setattr(text_table, "FREQUENT", 500)
    draw = np.random.default_rng(4)
    values = pl.Series([f"id{number}" for number in draw.zipf(1.3, 60_000) % 20_000])
    true = dict(values.value_counts().iter_rows())
    tables = []
    for start in range(0, 60_000, 7000):
        table = TextTable()
        table.add(values[start : start + 7000])
        tables.append(table)
    draw.shuffle(tables)
    whole = tables[0]
    for table in tables[1:]:
        whole.merge(table)
    assert not whole.exact
    assert whole.error <= 60_000 / 500
    assert abs(whole.distinct / len(true) - 1) < 0.08
    for value, count in whole.counts.select("value", "count").iter_rows():
        assert count <= true[value] <= count + whole.error
    assert max(count for value, count in true.items() if value not in set(whole.counts["value"])) <= whole.error


def test_nan_null_infinity_empty_and_zero_are_five_things() -> None:
    frame = pl.DataFrame({"x": [math.nan, None, math.inf, -0.0, 2.0], "s": ["", None, "a", "0", "nan"]})
    features = stats_by_name(frame)
    x, s = features["x"].num_stats, features["s"].string_stats
    assert (x.common_stats.num_missing, x.num_zeros, x.max, x.min) == (1, 1, math.inf, 0.0)
    standard, quantiles = x.histograms
    assert standard.num_nan == quantiles.num_nan == 1
    assert [bucket.sample_count for bucket in standard.buckets if bucket.low_value == math.inf] == [1]
    assert sum(bucket.sample_count for bucket in standard.buckets) == 3
    assert (s.common_stats.num_missing, s.unique) == (1, 4)
    assert {top.value for top in s.top_values} == {"", "a", "0", "nan"}


def test_numbers_that_lie_close_together_far_from_zero_keep_their_deviation() -> None:
    values = 1.6e9 + np.array([0.0, 1.0, 2.0])
    assert stats_by_name(pl.DataFrame({"x": values}))["x"].num_stats.std_dev == pytest.approx(math.sqrt(2 / 3))
    huge = stats_by_name(pl.DataFrame({"x": [1e308, 1e308, -1e308]}))["x"].num_stats
    assert huge.mean == pytest.approx(1e308 / 3)
    assert huge.std_dev == pytest.approx(math.sqrt(8) / 3 * 1e308)


@pytest.mark.parametrize("ending", [".pb", ".pbtxt", ".parquet"])
def test_statistics_survive_their_files(tmp_path: Path, ending: str) -> None:
    frame = pl.DataFrame({"x": [1.0, math.nan], "s": ["a", None], "l": [[1], []], "weight": [1.0, 2.0]})
    statistics = statistics_of(census_of([frame], weight="weight"))
    path = tmp_path / f"s{ending}"
    write_statistics(statistics, path)
    assert is_statistics(path)
    assert text_format.MessageToString(read_statistics(path)) == text_format.MessageToString(statistics)


CSV = 'id,x,s\n1,1.5,a\n2,,""\n007,nan,\n'


def test_fields_of_a_csv_are_typed_after_all_were_seen(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(CSV)
    frame = pl.concat(list(batches_of(path)))
    assert frame.schema == {"id": pl.String, "x": pl.Float64, "s": pl.String}
    assert frame["s"].to_list() == ["a", "", None]
    with pytest.raises(BadInput, match="no INT, for example"):
        list(batches_of(path, {"x": "INT"}))


DAMAGED = {
    "ragged.csv": (b"a,b\n1,2\n3\n", "cannot be read"),
    "long.csv": (b"a,b\n1,2\n3,4,5\n", "cannot be read"),
    "twice.csv": (b"a,b\n1,2\na,b\n3,4\n", "repeats its header"),
    "names.csv": (b"a,a\n1,2\n", "two columns of the name 'a'"),
    "nul.csv": (b"a,b\n1,\0\n", "NUL"),
    "latin.csv": ("a,b\n1,ä\n".encode("latin-1"), "cannot be read"),
    "empty.csv": (b"", "no column"),
    "cut.parquet": (b"PAR1 and then nothing", "cannot be read"),
    "lines.jsonl": (b'{"a": 1}\n{"a": ', "cannot be read"),
    "odd.xlsx": (b"", "no ending"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_table_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    content, rule = DAMAGED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=rule) as refused:
        list(batches_of(tmp_path / name))
    assert "\n" not in str(refused.value)


def test_odd_columns_are_counted_or_refused() -> None:
    frame = pl.DataFrame(
        {
            "null": [None, None],
            "big": pl.Series([2**64 - 1, 0], dtype=pl.UInt64),
            "decimal": pl.Series(["1.10", "2.20"]).cast(pl.Decimal(10, 2)),
            "bytes": [b"\xff", b"ok"],
            "flag": [True, False],
            "time": pl.Series(["2013-03-10T02:30:00Z", None]).str.to_datetime(time_zone="UTC"),
        }
    )
    features = stats_by_name(frame)
    assert features["null"].string_stats.common_stats.num_missing == 2
    assert features["big"].num_stats.max == float(2**64 - 1)
    assert features["decimal"].num_stats.mean == pytest.approx(1.65)
    assert features["bytes"].string_stats.invalid_utf8_count == 1
    assert (features["flag"].type, features["flag"].num_stats.mean) == (0, 0.5)
    assert features["time"].custom_stats[0].str == "microseconds since 1970, UTC"
    naive = frame.with_columns(pl.col("time").dt.replace_time_zone(None))
    with pytest.raises(BadInput, match="no zone"):
        census_of([frame, naive])
    with pytest.raises(BadInput, match="column 'o': has type Object"):
        census_of([pl.DataFrame({"o": pl.Series([object()], dtype=pl.Object)})])
    with pytest.raises(BadInput, match="is INT in one part and STRING in another"):
        census_of([frame, frame.with_columns(flag=pl.lit("yes"))])
    assert statistics_of(census_of([frame.clear()])).datasets[0].num_examples == 0


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_a_weight_that_is_none_is_refused(value: float) -> None:
    with pytest.raises(BadInput, match="negative, NaN or above"):
        census_of([pl.DataFrame({"w": [1.0, value]})], weight="w")


def as_counted(values: list[float]) -> NumberCounts:
    return NumberCounts(*np.unique(np.array(values, np.float64), return_counts=True))


NUMBERS = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12)


@given(NUMBERS, NUMBERS)
@settings(max_examples=50, deadline=None)
def test_distances_of_numbers_equal_scipy(one: list[float], other: list[float]) -> None:
    """Ties and all; and sides may be swapped."""
    first, second = as_counted(one), as_counted(other)
    assert kolmogorov_smirnov(first, second) == pytest.approx(stats.ks_2samp(one, other, method="asymp").statistic)
    assert wasserstein(first, second) == pytest.approx(stats.wasserstein_distance(one, other))
    assert kolmogorov_smirnov(first, second) == kolmogorov_smirnov(second, first)
    assert wasserstein(first, second) == pytest.approx(wasserstein(second, first))
    assert population_stability(first, first) == kolmogorov_smirnov(first, first) == wasserstein(first, first) == 0
    assert population_stability(first, second) >= 0


@given(st.lists(st.sampled_from("abc"), min_size=1), st.lists(st.sampled_from("abcd"), min_size=1))
@settings(max_examples=50, deadline=None)
def test_chi_square_equals_scipy(one: list[str], other: list[str]) -> None:
    first, second = Counter(one), Counter(other)
    found = chi_square(first, second)
    assert population_stability_of_texts(first, first) == 0
    if len({*one, *other}) > 1:
        table = [[side[text] for text in sorted({*one, *other})] for side in (first, second)]
        expected = stats.chi2_contingency(table, correction=False)
        assert found.statistic == pytest.approx(expected.statistic, abs=1e-12)
        assert found.p_value == pytest.approx(expected.pvalue, abs=1e-12)
        assert found.freedom == expected.dof
