"""Spans: the digest says what the rows say, writes are whole or absent, damage is named."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sluice.data.ingest import ingest
from sluice.data.span import EXAMPLES_FILE, RECORD_FILE, SpanRecord, content_digest, read_record, read_span
from sluice.errors import BadArtifact, BadInput, Refused, SluiceError
from sluice.tasks.task import Slice
from tests.support.tiny_task import TASK, orders, with_examples, with_some

_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def span(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the span of the tiny task; not to be changed."""
    folder = tmp_path_factory.mktemp("span")
    ingest(TASK, folder)
    return folder


@pytest.fixture
def copy(span: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    for name in (EXAMPLES_FILE, RECORD_FILE):
        (tmp_path / name).write_bytes((span / name).read_bytes())
    return tmp_path


def test_a_span_is_sorted_split_by_time_and_without_duplicates(span: Path) -> None:
    frame, record, splits = read_span(span), read_record(span), TASK.splits
    assert frame.sort("event_time", "example_id").equals(frame)
    assert frame["example_id"].is_unique().all()
    assert record.duplicates > 0
    assert record.rows == frame.height == sum(record.splits.values())
    assert record.window == ("2024-01-01T00:00:00Z", "2024-04-05T00:00:00Z")
    bounds = {
        "train": (splits.train, splits.tune),
        "tune": (splits.tune, splits.test),
        "test": (splits.test, splits.live),
    }
    for name, (start, end) in bounds.items():
        rows = frame.filter(pl.col("split") == name)
        assert rows.height == record.splits[name] > 0
        assert rows["event_time"].is_between(start, end, closed="left").all()


def test_the_same_source_gives_the_same_span_again(span: Path, tmp_path: Path) -> None:
    shuffled = with_examples(lambda rows: rows.sample(fraction=1, shuffle=True, seed=3))
    assert ingest(shuffled, tmp_path) == read_record(span)
    assert (tmp_path / RECORD_FILE).read_bytes() == (span / RECORD_FILE).read_bytes()
    again = ingest(TASK, tmp_path)
    assert again == read_record(span)
    assert sorted(path.name for path in tmp_path.iterdir()) == [EXAMPLES_FILE, RECORD_FILE]


def test_rows_that_differ_in_the_sign_of_a_zero_alone_are_one_whatever_their_order(tmp_path: Path) -> None:
    def twice(zeros: list[float]) -> Callable[[pl.DataFrame], pl.DataFrame]:
        last = pl.col("example_id") == pl.col("example_id").max()
        return lambda rows: pl.concat(
            [rows.filter(~last), *(rows.filter(last).with_columns(amount=pl.lit(zero)) for zero in zeros)]
        )

    records = [
        ingest(with_examples(twice(zeros)), tmp_path / str(number))
        for number, zeros in enumerate(([0.0, -0.0], [-0.0, 0.0], [0.0], [-0.0]))
    ]
    assert len({record.digest for record in records}) == 1
    assert records[0].duplicates == records[1].duplicates == records[2].duplicates + 1


def test_the_digest_is_pinned() -> None:
    frame = pl.DataFrame(
        {
            "text": ["ü", None, ""],
            "number": [1.5, float("nan"), None],
            "count": pl.Series([1, None, 3], dtype=pl.Int8),
            "flag": [True, None, False],
            "at": [datetime(2024, 1, 1, tzinfo=UTC), None, datetime(2024, 1, 2, tzinfo=UTC)],
        },
        schema_overrides={"at": pl.Datetime("us", "UTC")},
    )
    assert content_digest(frame) == "sha256:7f7705af9310ba9db1e66b75dd06fa10d427c0b539187d0f652f2024abdf6059"
    assert content_digest(frame.select(sorted(frame.columns))) == content_digest(frame)


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows.with_columns(text=pl.Series(["a", "b", "cd"])),
        lambda rows: rows.with_columns(text=pl.Series(["", "abc", "d"])),
        lambda rows: rows.with_columns(text=pl.Series(["ab", None, "cd"])),
        lambda rows: rows.with_columns(number=pl.Series([0, 2, 3])),
        lambda rows: rows.with_columns(number=pl.Series([None, 2, 3])),
        lambda rows: rows.with_columns(pl.col("number").cast(pl.Int32)),
        lambda rows: rows.rename({"text": "texts"}),
        lambda rows: rows.drop("number"),
        lambda rows: rows.reverse(),
        lambda rows: rows.head(2),
    ],
)
def test_every_change_of_content_changes_the_digest(change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    frame = pl.DataFrame({"text": ["ab", "", "cd"], "number": [1, 2, 3]})
    assert content_digest(change(frame)) != content_digest(frame)


def test_chunks_compression_and_nan_bits_leave_the_digest_alone(span: Path, tmp_path: Path) -> None:
    frame = read_span(span)
    chunked = pl.concat([frame.head(17), frame.slice(17, 900), frame.slice(917)], rechunk=False)
    frame.write_parquet(tmp_path / "other.parquet", compression="lz4", row_group_size=111)
    assert content_digest(chunked) == content_digest(pl.read_parquet(tmp_path / "other.parquet"))
    assert content_digest(chunked) == read_record(span).digest
    odd_nan = np.array([0x7FF8000000000001], dtype=np.uint64).view(np.float64)
    assert content_digest(pl.DataFrame({"x": odd_nan})) == content_digest(pl.DataFrame({"x": [float("nan")]}))


def test_a_column_that_has_no_encoding_is_named() -> None:
    with pytest.raises(BadInput, match="column 'parts'"):
        content_digest(pl.DataFrame({"parts": [[1, 2]]}))


def _no_rows(start: datetime, end: datetime) -> pl.DataFrame:
    raise KeyError(f"{start:%B}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"read_examples": lambda *_: None}, "read_examples of task 'tiny': gives builtins.NoneType, no polars.DataF"),
        ({"read_examples": lambda *_: orders().to_pandas()}, "gives pandas.*DataFrame, no polars.*; give pl.from_pand"),
        ({"read_examples": lambda *_: orders().lazy()}, "gives polars.*LazyFrame, no polars.DataFrame; collect it"),
        ({"read_examples": _no_rows}, r"raises KeyError in test_data_ingest.py, line \d+ \('January'\); mend read_ex"),
        ({"read_examples": lambda _: orders()}, "read_examples of task 'tiny': raises TypeError"),
        ({"read_examples": lambda *_: orders().select("no")}, r"raises ColumnNotFoundError in test_data_ingest.py"),
        ({"source_files": lambda: None}, "source_files of task 'tiny': gives no paths by name"),
        ({"source_files": dict}, "source_files of task 'tiny': gives no paths by name"),
        ({"source_files": lambda: {"a": "orders.csv"}}, "source_files of task 'tiny': gives no paths by name"),
        ({"source_files": lambda: {"a": Path("no-such.csv")}}, "no-such.csv: cannot be read"),
    ],
)
def test_whatever_a_task_says_of_its_source_is_input(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        ingest(dataclasses.replace(TASK, **change), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("slices", "message"),
    [
        ([Slice("shop", "shpo")], "slice 'shop' of task 'tiny': asks for 'shpo', which no frame .*; write 'shop'"),
        ([Slice("rate", "shop_return_rat > 0.5")], "asks for 'shop_return_rat', .*; write 'shop_return_rate'"),
        ([Slice("band", "CASE WHEN hour < 12")], "slice 'band' of task 'tiny': (cannot be evaluated|asks for)"),
        ([Slice("band", "nofunction(hour)")], "cannot be evaluated .*nofunction"),
        ([Slice("band", "")], "cannot be evaluated"),
        ([Slice("all", "MAX(hour)")], "gives one value for all rows"),
        ([Slice("sum", "shop + hour * 'x'")], "slice 'sum' of task 'tiny': cannot be evaluated"),
        ([Slice("shop", "shop"), Slice("shop", "hour")], "slice 'shop' of task 'tiny': is there twice"),
        ([Slice("shop=x", "shop")], "slice 'shop=x' of task 'tiny': is no name"),
    ],
)
def test_a_slice_that_cannot_be_is_refused_before_features_are_built(
    slices: list[Slice], message: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=message):
        ingest(dataclasses.replace(TASK, slices=tuple(slices)), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_slice_may_be_over_a_feature_that_the_span_lacks(tmp_path: Path) -> None:
    often = Slice("often", "CASE WHEN shop_orders > 9 THEN 'often' ELSE 'seldom' END")
    assert ingest(dataclasses.replace(TASK, slices=(often,)), tmp_path).rows


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tune": datetime(2024, 3, 1)}, "splits.tune: is datetime.datetime.*no moment in a time zone"),  # noqa: DTZ001
        ({"train": date(2024, 1, 1)}, "splits.train: is .*no moment in a time zone"),
        ({"end": "2024-05-01"}, "splits.end: is '2024-05-01', no moment"),
        ({"live": datetime(2024, 2, 1, tzinfo=UTC)}, "splits.live: is 2024-02-01 .*before splits.test"),
        ({"end": datetime(2024, 4, 1, tzinfo=UTC)}, "splits.end: is 2024-04-01 .*before splits.live"),
    ],
)
def test_splits_are_moments_that_follow_each_other(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        dataclasses.replace(TASK.splits, **change)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda rows: rows.drop("amount"), BadInput, "no column 'amount'"),
        (lambda rows: rows.drop("shop"), BadInput, "no column 'shop'"),
        (lambda rows: rows.drop("label_time"), BadInput, "no column 'label_time'"),
        (lambda rows: rows.with_columns(pl.col("amount").cast(pl.String)), BadInput, "column 'amount'.*type string"),
        (lambda rows: rows.with_columns(pl.col("shop").hash()), BadInput, "column 'shop'.*has type uint64, not String"),
        (lambda rows: with_some(rows, "shop", None), BadInput, "column 'shop' of task 'tiny': is null in 4 of"),
        (
            lambda rows: with_some(rows, "amount", None),
            BadInput,
            "column 'amount' .*is null in 4 of .*; fill it in read_exa",
        ),
        (lambda rows: with_some(rows, "hour", None), BadInput, "column 'hour' .*is null in 4 of .*Task.nullable"),
        (
            lambda rows: with_some(rows, "amount", float("nan")),
            BadInput,
            "column 'amount' .* in 4 of .*for example nan, which",
        ),
        (
            lambda rows: with_some(rows, "amount", float("-inf")),
            BadInput,
            "'amount' .*is not a finite number of 32 bits in 4",
        ),
        (
            lambda rows: with_some(rows, "amount", 1e39),
            BadInput,
            "'amount' .*for example 1e\\+39, which no ser",
        ),
        (lambda rows: with_some(rows, "hour", -(2**63)), BadInput, "column 'hour' .*is below all integers in 4 of"),
        (
            lambda rows: with_some(rows, "shop", "x" * 257),
            BadInput,
            "'shop' .*has more than 256 characters in 4 of",
        ),
        (lambda rows: rows.with_columns(refund=pl.lit(1.0)), Refused, "column 'refund'.*known only after"),
        (lambda rows: rows.clear(), BadInput, "has no rows"),
        (
            lambda rows: rows.with_columns(label=pl.col("hour").cast(pl.Int8) % 7),
            BadInput,
            "gives labels from 0 to 6; ask",
        ),
        (lambda rows: rows.with_columns(label=pl.col("label") * 2 - 1), BadInput, "gives labels from -1 to 1; ask"),
        (
            lambda rows: rows.with_columns(pl.col("event_time") + timedelta(days=400)),
            BadInput,
            "example 'order-.*outside the window",
        ),
        (
            lambda rows: pl.concat([rows, rows.head(1).with_columns(amount=pl.lit(0.01))]),
            BadInput,
            "two different rows with the id 'order-00001'",
        ),
    ],
)
def test_a_broken_source_is_named_and_nothing_is_written(
    change: Callable[[pl.DataFrame], pl.DataFrame], error: type[SluiceError], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        ingest(with_examples(change), tmp_path / "span")
    assert not (tmp_path / "span").exists()


def test_what_the_task_lets_be_null_may_be_and_nothing_else_can_be_let(tmp_path: Path) -> None:
    task = dataclasses.replace(
        with_examples(lambda rows: with_some(with_some(rows, "shop", None), "amount", None)),
        nullable=frozenset({"shop", "amount"}),
    )
    ingest(task, tmp_path)
    assert read_span(tmp_path)["shop"].null_count() == 4
    odd = dataclasses.replace(TASK, nullable=frozenset({"label"}))
    with pytest.raises(BadInput, match=r"Task\.nullable of task 'tiny': names 'label', which is neither"):
        ingest(odd, tmp_path)


def test_a_missing_source_file_is_named(tmp_path: Path) -> None:
    gone = tmp_path / "gone.csv"
    with pytest.raises(BadInput, match=r"gone\.csv: cannot be read"):
        ingest(dataclasses.replace(TASK, source_files=lambda: {"gone.csv": gone}), tmp_path / "span")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_span_is_named(copy: Path, share: float) -> None:
    path = copy / EXAMPLES_FILE
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(BadArtifact, match=rf"{EXAMPLES_FILE}: is not a whole parquet file"):
        read_span(copy)


def test_flipped_bits_are_named_or_change_nothing(copy: Path) -> None:
    path = copy / EXAMPLES_FILE
    whole, data = read_span(copy), path.read_bytes()
    blamed = []
    random = np.random.default_rng(0)
    # Most in the footer, where damage makes a reader panic.
    for place in (*random.integers(0, len(data), 60), *random.integers(len(data) - 3000, len(data), 300)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        try:
            assert read_span(copy).equals(whole)
        except BadArtifact as error:
            blamed.append(error.thing)
    assert set(blamed) == {str(path)}
    assert len(blamed) > 180


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.drop("amount"), "lacks column 'amount'"),
        (lambda rows: rows.with_columns(more=1), "column 'more', which is not recorded"),
        (
            lambda rows: rows.with_columns(pl.col("hour").cast(pl.Int32)),
            "column 'hour' of type int32, int64 is recorded",
        ),
        (lambda rows: rows.head(-1), "rows, .* are recorded"),
        (
            lambda rows: rows.with_columns(
                pl.when(pl.col("example_id") == "order-00001")
                .then(1 - pl.col("label"))
                .otherwise("label")
                .alias("label")
            ),
            "has content sha256:.* is recorded",
        ),
    ],
)
def test_a_rewritten_span_is_named(copy: Path, change: Callable[[pl.DataFrame], pl.DataFrame], message: str) -> None:
    change(read_span(copy)).write_parquet(copy / EXAMPLES_FILE)
    with pytest.raises(BadArtifact, match=rf"{EXAMPLES_FILE}: .*{message}"):
        read_span(copy)


def test_a_missing_or_mangled_record_is_named(copy: Path) -> None:
    record = json.loads((copy / RECORD_FILE).read_text())
    (copy / RECORD_FILE).write_text(json.dumps(record | {"more": 1}))
    with pytest.raises(BadArtifact, match=r"span\.json: is not a span record \(more: "):
        read_span(copy)
    (copy / RECORD_FILE).write_text('{"digest"')
    with pytest.raises(BadArtifact, match=r"span\.json: is not a span record"):
        read_span(copy)
    (copy / RECORD_FILE).unlink()
    with pytest.raises(BadInput, match=r"span\.json: cannot be read"):
        read_span(copy)


def test_a_missing_parquet_is_named(copy: Path) -> None:
    (copy / EXAMPLES_FILE).unlink()
    with pytest.raises(BadInput, match=r"examples\.parquet: does not exist"):
        read_span(copy)


_FULL = """
import resource, sys
from pathlib import Path
from sluice.data.ingest import ingest
from sluice.errors import BadInput
from tests.support.tiny_task import TASK
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))
try:
    ingest(TASK, Path(sys.argv[1]))
except BadInput as error:
    sys.exit(f"refused: {error}")
"""


@pytest.mark.parametrize("room", [0, 5000])
def test_a_full_disk_leaves_the_old_span_or_none(tmp_path: Path, room: int) -> None:
    def run() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", _FULL, str(tmp_path / "span"), str(room)]
        return subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)

    done = run()
    assert done.returncode == 1
    assert done.stderr.startswith(f"refused: {tmp_path / 'span'}: cannot be written")
    assert list((tmp_path / "span").iterdir()) == []
    before = ingest(TASK, tmp_path / "span")
    assert run().returncode == 1
    assert read_record(tmp_path / "span") == before
    assert read_span(tmp_path / "span").height == before.rows


def test_the_record_refuses_unknown_keys(span: Path) -> None:
    record = read_record(span)
    assert SpanRecord.model_validate_json(record.model_dump_json()) == record
    assert orders().height > record.rows
