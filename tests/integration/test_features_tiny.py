"""The feature steps on another task: nothing in them knows what a row means."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import sqlite3
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sluice.data.ingest import ingest
from sluice.errors import BadArtifact, BadInput, Refused, Unavailable
from sluice.features.build import FrameRecord, build_features
from sluice.features.manifest import FeatureManifest
from sluice.features.parity import FeatureHistory, offline_cells
from sluice.features.publish import FeaturePublisher
from sluice.features.reader import OnlineReader
from sluice.features.tables import code_of_tables, known_code
from tests.support.broken_tables import BROKEN, INFINITE, history, with_table
from tests.support.tiny_task import TASK, read_examples, with_examples, with_some

_REPO = Path(__file__).parents[1] / "support/tiny_feature_repo"
_NOW = datetime(2024, 4, 10, 12, 20, tzinfo=UTC)


@dataclasses.dataclass(frozen=True)
class Built:
    """What the features step left behind."""

    span: Path
    out: Path
    record: FrameRecord
    manifest: FeatureManifest

    @property
    def frame(self) -> pl.DataFrame:
        """The frame."""
        return pl.read_parquet(self.out / "frame.parquet")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Frame and manifest of the tiny task."""
    root = tmp_path_factory.mktemp("tiny")
    ingest(TASK, root / "span")
    record = build_features(TASK, root / "span", _REPO, root / "store", root / "out")
    manifest = FeatureManifest.model_validate_json((root / "out" / "manifest.json").read_bytes())
    return Built(root / "span", root / "out", record, manifest)


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that was published up to ``_NOW``'s grid point."""
    store = tmp_path_factory.mktemp("serving")
    publisher = FeaturePublisher(TASK, store, _REPO)
    publisher.reset(_NOW - timedelta(days=2))
    publisher.advance(_NOW)
    return store


def _requests(moment: datetime) -> pl.DataFrame:
    rows = read_examples(moment, moment + timedelta(hours=12)).sort("example_id")
    return rows.select("shop", "amount", "hour", event_time=pl.lit(moment).dt.cast_time_unit("us"))


def test_every_labelled_row_comes_back_once(built: Built) -> None:
    span = pl.read_parquet(built.span / "examples.parquet")
    assert built.frame.height + built.record.unlabelled == span.height
    assert built.frame["example_id"].to_list() == span.filter(pl.col("label").is_not_null())["example_id"].to_list()


def test_frame_has_the_manifest_in_its_order_with_its_types(built: Built) -> None:
    names = built.manifest.names
    assert names == ("shop_orders", "shop_mean_amount", "shop_return_rate", "amount_ratio", "amount", "hour", "shop")
    types = {"float": pl.Float64, "int": pl.Int64, "string": pl.String}
    assert {f.name: built.frame.schema[f.name] for f in built.manifest.features} == {
        f.name: types[f.dtype] for f in built.manifest.features
    }
    assert built.frame["slice_hour_band"].unique().sort().to_list() == ["later", "morning"]


def test_built_twice_it_has_the_same_digests(built: Built, tmp_path: Path) -> None:
    again = build_features(TASK, built.span, _REPO, tmp_path / "store", tmp_path / "out")
    assert again == built.record
    assert (tmp_path / "out" / "manifest.json").read_bytes() == (built.out / "manifest.json").read_bytes()


def test_training_sees_no_row_at_or_after_live(built: Built) -> None:
    table = pl.read_parquet(built.span.parent / "store" / "offline" / "shop_history.parquet")
    assert table["event_timestamp"].max() < TASK.splits.live  # type: ignore[operator]


def test_online_reads_equal_the_offline_join(built: Built, serving: Path) -> None:
    requests = _requests(_NOW)
    instances = requests.select("shop", "amount", "hour").to_dicts()
    served = OnlineReader(serving, built.manifest).read(instances, _NOW)
    offline = offline_cells(FeatureHistory.of_store(TASK, serving), requests, built.manifest.names).cells
    assert len(instances) > 10
    assert pl.DataFrame(served.rows, schema=offline.schema).equals(offline)


def test_a_value_older_than_its_time_to_live_is_missing(built: Built, serving: Path) -> None:
    reader = OnlineReader(serving, built.manifest)
    instance = {"shop": "oak", "amount": 10.0, "hour": 3}
    published = datetime(2024, 4, 10, tzinfo=UTC)
    at_the_end = reader.read([instance], published + timedelta(days=3))
    too_late = reader.read([instance], published + timedelta(days=3, microseconds=1))
    assert at_the_end.missing == [()]
    assert set(too_late.stale[0]) == {"shop_orders", "shop_mean_amount", "shop_return_rate", "amount_ratio"}
    assert too_late.rows[0]["amount_ratio"] is None
    assert too_late.rows[0]["amount"] == 10.0


def test_an_unknown_key_is_missing_and_not_stale(built: Built, serving: Path) -> None:
    read = OnlineReader(serving, built.manifest).read([{"shop": "yew", "amount": 1.0, "hour": 1}], _NOW)
    assert read.stale == [()]
    assert set(read.missing[0]) == {"shop_orders", "shop_mean_amount", "shop_return_rate", "amount_ratio"}


def test_a_reduced_manifest_gives_its_own_names_in_its_own_order(built: Built, serving: Path) -> None:
    chosen = tuple(f for name in ("hour", "amount_ratio") for f in built.manifest.features if f.name == name)
    reader = OnlineReader(serving, built.manifest.model_copy(update={"features": chosen}))
    [row] = reader.read([{"shop": "oak", "amount": 10.0, "hour": 3}], _NOW).rows
    assert list(row) == ["hour", "amount_ratio"]
    assert row["amount_ratio"] is not None


@pytest.mark.parametrize(
    ("instance", "named"),
    [
        ({"shop": "oak", "amount": 1.0}, r"instances\[0\]\.hour: is missing"),
        ({"shop": "oak", "amount": "1", "hour": 1}, r"instances\[0\]\.amount: is '1'"),
        ({"shop": 7, "amount": 1.0, "hour": 1}, r"instances\[0\]\.shop: is 7"),
        ({"shop": "oak", "amount": float("nan"), "hour": 1}, r"instances\[0\]\.amount: is nan"),
        ({"shop": "oak", "amount": 1.0, "hour": 1.5}, r"instances\[0\]\.hour: is 1.5"),
        ({"shop": "oak", "amount": 1.0, "hour": True}, r"instances\[0\]\.hour: is True"),
        ({"shop": "oak", "amount": 1.0, "hour": 2**63}, r"instances\[0\]\.hour: is 9223372036854775808"),
        ({"shop": "oak", "amount": 1.0, "hour": 1, "refund": 1}, r"instances\[0\]\.refund: is not an input"),
    ],
)
def test_a_wrong_request_is_refused_by_name(
    built: Built, serving: Path, instance: dict[str, object], named: str
) -> None:
    with pytest.raises(BadInput, match=named):
        OnlineReader(serving, built.manifest).read([instance], _NOW)


def test_a_key_that_may_be_null_reads_nothing_online_as_offline(serving: Path, tmp_path: Path) -> None:
    examples = with_examples(lambda rows: with_some(with_some(rows, "shop", None), "amount", None))
    task = dataclasses.replace(examples, nullable=frozenset({"shop", "amount"}))
    ingest(task, tmp_path / "span")
    build_features(task, tmp_path / "span", _REPO, tmp_path / "store", tmp_path / "out")
    frame = pl.read_parquet(tmp_path / "out/frame.parquet").filter(pl.col("shop").is_null())
    assert 0 < frame.height <= 4
    assert frame["shop_orders"].null_count() == frame["amount_ratio"].null_count() == frame.height
    manifest = FeatureManifest.model_validate_json((tmp_path / "out/manifest.json").read_bytes())
    assert manifest.nullable == ("amount", "shop")
    instances: list[dict[str, Any]] = [
        {"shop": None, "amount": 2.0, "hour": 3},
        {"shop": None, "amount": None, "hour": 3},
        {"shop": "oak", "amount": 2.0, "hour": 3},
    ]
    read = OnlineReader(serving, manifest).read(instances, _NOW)
    requests = pl.DataFrame(instances).with_columns(event_time=pl.lit(_NOW).dt.cast_time_unit("us"))
    history = FeatureHistory.of_store(TASK, serving)
    offline = offline_cells(history, requests, manifest.names)
    assert pl.DataFrame(read.rows, schema=offline.cells.schema).equals(offline.cells)
    assert (read.as_of, read.failures) == (offline.as_of, {})
    assert read.rows[2]["amount_ratio"] is not None
    nobody = offline_cells(history, requests[:2], manifest.names).cells
    assert nobody.equals(offline.cells[:2])
    assert list(OnlineReader(serving, manifest).read([instances[2] | {"amount": None}], _NOW).failures) == [0]
    with pytest.raises(BadInput, match=r"instances\[0\]\.hour: is None; send a int"):
        OnlineReader(serving, manifest).read([instances[2] | {"hour": None}], _NOW)


def test_no_instances_give_no_rows(built: Built, serving: Path) -> None:
    assert OnlineReader(serving, built.manifest).read([], _NOW).rows == []


def test_a_model_of_other_definitions_is_refused(built: Built, serving: Path) -> None:
    other = built.manifest.model_copy(update={"service_digest": "sha256:" + "0" * 64})
    with pytest.raises(BadArtifact, match="feature service tiny"):
        OnlineReader(serving, other)


def test_a_feature_that_is_known_later_is_refused_and_nothing_is_applied(built: Built, tmp_path: Path) -> None:
    store = built.span.parent / "store"
    before = (store / "registry.db").read_bytes()
    shutil.copytree(_REPO, tmp_path / "repo")
    text = (_REPO / "definitions.py").read_text()
    (tmp_path / "repo" / "definitions.py").write_text(text.replace('"shop_return_rate"', '"refund"'))
    with pytest.raises(Refused, match="feature refund of view shop_history"):
        build_features(TASK, built.span, tmp_path / "repo", store, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert (store / "registry.db").read_bytes() == before


def test_a_request_input_that_is_known_later_is_refused(built: Built, tmp_path: Path) -> None:
    task = dataclasses.replace(TASK, request_inputs={**TASK.request_inputs, "refund": pl.Float64})
    with pytest.raises(Refused, match="feature refund of view request"):
        build_features(task, built.span, _REPO, tmp_path / "store", tmp_path / "out")


@pytest.mark.parametrize("name", [*BROKEN, "infinity"])
def test_a_table_that_is_not_what_its_view_says_is_refused_and_nothing_is_written(
    built: Built, tmp_path: Path, name: str
) -> None:
    change, says = BROKEN.get(name, (INFINITE, "column 'shop_mean_amount' of table .* is infinite in 1 of"))
    task = with_table(change)
    with pytest.raises(BadInput, match=says) as refusal:
        build_features(task, built.span, _REPO, tmp_path / "store", tmp_path / "out")
    assert "table 'shop_history' of task 'tiny'" in str(refusal.value)
    assert str(refusal.value).endswith("; mend read_feature_tables of the task or its source")
    with pytest.raises(BadInput, match=says):
        FeaturePublisher(task, tmp_path / "store", _REPO)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [name for name in BROKEN if name != "no rows"])
def test_a_table_that_somebody_else_wrote_is_refused_where_it_is_read(serving: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(serving, tmp_path / "store")
    store, (change, says) = tmp_path / "store", BROKEN[name]
    path = store / "offline/shop_history.parquet"
    FeatureHistory.of_store(TASK, store)  # its registry now names the copy
    change(pl.read_parquet(path)).write_parquet(path)
    for read in (
        lambda: FeaturePublisher(TASK, store),
        lambda: offline_cells(FeatureHistory.of_store(TASK, store), _requests(_NOW), ["shop_orders"]),
    ):
        with pytest.raises(BadInput, match=says) as refusal:
            read()
        assert str(path) in str(refusal.value)


def test_rows_that_are_there_twice_count_once(built: Built, tmp_path: Path) -> None:
    task = with_table(lambda table: pl.concat([table, table.tail(40)]))
    again = build_features(task, built.span, _REPO, tmp_path / "store", tmp_path / "out")
    assert again.model_copy(update={"tables": built.record.tables}) == built.record


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        (lambda *_: None, "gives a NoneType, not tables by the names of their views"),
        (
            lambda *_: {"shop_histroy": history(*_)},
            r"gives no table for view 'shop_history', only for \['shop_histroy'\]",
        ),
        (
            lambda *_: {"shop_history": history(*_).to_pandas()},
            "gives a pandas.DataFrame for view",
        ),
        (
            lambda *_: {"shop_history": history(*_).lazy()},
            "gives a polars.LazyFrame for view",
        ),
        (lambda *_: 1 // 0, r"raises ZeroDivisionError in test_features_tiny.py, line \d+ \(integer"),
    ],
)
def test_what_is_no_table_is_said(built: Built, tmp_path: Path, tables: Any, says: str) -> None:
    task = dataclasses.replace(TASK, read_feature_tables=tables)
    with pytest.raises(BadInput, match=f"read_feature_tables of task 'tiny': {says}"):
        build_features(task, built.span, _REPO, tmp_path / "store", tmp_path / "out")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('timestamp_field="event_timestamp"', 'timestamp_field="at"', "view shop_history: has its times in 'at'"),
        ("    entities=[shop],\n", "", "view shop_history: has no entity"),
        ('mode="python"', 'mode="pandas"', r"definitions in .*: cannot be loaded \(TypeError: return signature"),
        ('mode="python"', 'mode="python", singleton=True', "basket: has mode python for single rows; write mode"),
        ("ttl=timedelta(days=3)", "ttl=timedelta(days=3", r"definitions in .*: cannot be loaded \(SyntaxError: "),
        ("ttl=timedelta(days=3)", "ttl=3 / 0", r"definitions in .*: cannot be loaded \(ZeroDivisionError: "),
        ('FeatureService(name="tiny"', 'FeatureService(name="huge"', r"feature service 'tiny': is not in .*\['huge'\]"),
        ("ttl=timedelta(days=3)", "ttl=timedelta(days=-3)", "view shop_history: has a lifetime of -259200 seconds"),
        (
            'Field(name="shop", dtype=String)',
            'Field(name="shop", dtype=Int64)',
            "key shop of view shop_history: has type Int64",
        ),
    ],
)
def test_a_view_that_cannot_be_served_is_refused_by_name(
    built: Built, tmp_path: Path, old: str, new: str, says: str
) -> None:
    shutil.copytree(_REPO, tmp_path / "repo", ignore=shutil.ignore_patterns("__pycache__"))
    text = (_REPO / "definitions.py").read_text()
    assert old in text
    text = (
        text.replace(old, new).replace("value_type=ValueType.STRING", "") if "Int64" in new else text.replace(old, new)
    )
    (tmp_path / "repo/definitions.py").write_text(text)
    with pytest.raises(BadInput, match=says):
        build_features(TASK, built.span, tmp_path / "repo", tmp_path / "store", tmp_path / "out")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("amount / mean if mean else None", "1 // 0", "ZeroDivisionError"),
        ("amount / mean if mean else None", "'much'", "SpecifiedFeaturesNotPresentError"),
    ],
)
def test_a_transform_that_fails_when_it_is_tried_is_named(
    built: Built, tmp_path: Path, old: str, new: str, says: str
) -> None:
    shutil.copytree(_REPO, tmp_path / "repo", ignore=shutil.ignore_patterns("__pycache__"))
    text = (_REPO / "definitions.py").read_text()
    assert old in text
    (tmp_path / "repo/definitions.py").write_text(text.replace(old, new))
    with pytest.raises(BadInput, match=rf"definitions in .*/repo: cannot be applied \({says}: ") as refusal:
        build_features(TASK, built.span, tmp_path / "repo", tmp_path / "store", tmp_path / "out")
    assert len(str(refusal.value).splitlines()) == 1


def test_a_view_whose_key_only_its_entity_names_is_the_same(built: Built, tmp_path: Path) -> None:
    shutil.copytree(_REPO, tmp_path / "repo", ignore=shutil.ignore_patterns("__pycache__"))
    text = (_REPO / "definitions.py").read_text().replace('        Field(name="shop", dtype=String),\n', "")
    (tmp_path / "repo/definitions.py").write_text(text)
    record = build_features(TASK, built.span, tmp_path / "repo", tmp_path / "store", tmp_path / "out")
    assert record == built.record


def test_frame_and_store_say_by_which_code_their_tables_were_built(built: Built, serving: Path) -> None:
    other = dataclasses.replace(TASK, read_feature_tables=lambda *_: {})
    assert built.record.tables == known_code(str(serving)) == code_of_tables(TASK) != code_of_tables(other)


def test_an_interrupted_build_starts_over(tmp_path: Path) -> None:
    FeaturePublisher(TASK, tmp_path, _REPO)
    table, mark = tmp_path / "offline" / "shop_history.parquet", tmp_path / "tables.json"
    whole = table.read_bytes()
    table.write_bytes(b"half")
    mark.unlink()
    FeaturePublisher(TASK, tmp_path)
    assert table.read_bytes() == whole


def test_a_store_without_definitions_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"has no feature_store\.yaml"):
        FeaturePublisher(TASK, tmp_path)


def test_advancing_before_a_reset_or_backwards_is_refused(serving: Path) -> None:
    publisher = FeaturePublisher(TASK, serving)
    with pytest.raises(BadInput, match="reset the publisher first"):
        publisher.advance(_NOW)


def _garbage(path: Path) -> None:
    path.write_bytes(b"garbage " * (path.stat().st_size // 8))


def _damaged_row(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        [(table,), *_] = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        connection.execute(f"UPDATE \"{table}\" SET value = X'FFFFFF'")  # noqa: S608


def _half(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size // 2)


@pytest.mark.parametrize(
    "damage",
    [_garbage, lambda path: path.write_bytes(b""), Path.unlink, _damaged_row, _half],
    ids=["garbage", "empty", "removed", "rows", "half"],
)
def test_a_store_that_was_damaged_is_unavailable_until_it_is_whole(
    built: Built, serving: Path, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    store, online = tmp_path / "store", tmp_path / "store" / "online.db"
    shutil.copytree(serving, store)
    _checkpoint(online)
    whole, reader = online.read_bytes(), OnlineReader(store, built.manifest)
    instance = [{"shop": "oak", "amount": 1.0, "hour": 1}]
    before = reader.read(instance, _NOW)
    damage(online)
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"online\.db: cannot be read \(.+\); put a whole store"):
            reader.read(instance, _NOW)
    assert online.exists() == (damage is not Path.unlink), "a reader makes no store"
    for suffix in ("-wal", "-shm"):
        online.with_name(f"online.db{suffix}").unlink(missing_ok=True)
    online.write_bytes(whole)
    assert reader.read(instance, _NOW) == before


def _checkpoint(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def test_a_new_file_at_the_path_is_read(built: Built, serving: Path, tmp_path: Path) -> None:
    store, instance = tmp_path / "store", [{"shop": "oak", "amount": 1.0, "hour": 1}]
    shutil.copytree(serving, store)
    reader = OnlineReader(store, built.manifest)
    before = reader.read(instance, _NOW)
    publisher = FeaturePublisher(TASK, tmp_path / "later", _REPO)
    publisher.reset(_NOW + timedelta(days=3))
    _checkpoint(tmp_path / "later" / "online.db")
    (tmp_path / "later" / "online.db").replace(store / "online.db")
    after = reader.read(instance, _NOW)
    assert after.as_of != before.as_of


def test_a_store_that_somebody_holds_is_not_waited_for(built: Built, serving: Path, tmp_path: Path) -> None:
    store, instance = tmp_path / "store", [{"shop": "oak", "amount": 1.0, "hour": 1}]
    shutil.copytree(serving, store)
    reader = OnlineReader(store, built.manifest)
    with contextlib.closing(sqlite3.connect(store / "online.db")) as holder:
        holder.execute("PRAGMA journal_mode=DELETE")
        holder.execute("BEGIN EXCLUSIVE")
        start = time.monotonic()
        with pytest.raises(Unavailable, match="locked"):
            reader.read(instance, _NOW)
        assert time.monotonic() - start < 3
    assert reader.read(instance, _NOW).rows


def test_a_file_that_is_no_store_is_not_written_over(tmp_path: Path) -> None:
    FeaturePublisher(TASK, tmp_path, _REPO)
    (tmp_path / "applied.json").unlink()
    for path in tmp_path.glob("online.db*"):
        path.unlink()
    (tmp_path / "online.db").write_bytes(b"somebody's notes" * 1000)
    with pytest.raises(BadArtifact, match=r"online\.db: is no online store"):
        FeaturePublisher(TASK, tmp_path, _REPO)
