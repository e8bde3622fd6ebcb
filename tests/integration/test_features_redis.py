"""The cluster's online store: a real Redis answers as SQLite and the offline join do, and its faults are clear."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from sluice.data.ingest import ingest
from sluice.errors import BadArtifact, BadInput, Refused, Unavailable
from sluice.features.build import build_features, manifest_of
from sluice.features.cluster import cluster_reader, cluster_store
from sluice.features.freshness import FeatureFreshness
from sluice.features.manifest import FeatureManifest
from sluice.features.materialize import materialize, read_marks
from sluice.features.parity import FeatureHistory, offline_cells
from sluice.features.publish import FeaturePublisher
from sluice.features.reader import OnlineReader
from sluice.features.request_reader import FeatureRows
from sluice.features.store import plan_of
from tests.support.broken_tables import BROKEN, INFINITE, MOMENT, TICK, history, late, with_table
from tests.support.servers import Server, redis_server, running
from tests.support.tiny_task import TASK, read_examples, read_feature_tables

_REPO = Path(__file__).parents[1] / "support/tiny_feature_repo"
_NOW = datetime(2024, 4, 10, 12, 20, tzinfo=UTC)
_PASSWORD = "a,b='c\"${d}"  # noqa: S105  every character that a configuration could trip over


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Redis with a password."""
    with running(redis_server(tmp_path_factory.mktemp("redis"), _PASSWORD)) as server:
        yield server


@pytest.fixture
def settings(redis: Server, tmp_path: Path) -> dict[str, str]:
    """The environment of a process on the cluster: an empty Redis, and tables in a folder."""
    found = {
        "SLUICE_REDIS": f"127.0.0.1:{redis.port}",
        "SLUICE_REDIS_PASSWORD": _PASSWORD,
        "SLUICE_FEATURES": str(tmp_path / "features"),
    }
    with cluster_store(_REPO, found) as feast:
        feast.provider.online_store._get_client(feast.config.online_store).flushall()
    return found


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> FeatureManifest:
    """What a model of the tiny task was trained with."""
    root = tmp_path_factory.mktemp("tiny")
    ingest(TASK, root / "span")
    build_features(TASK, root / "span", _REPO, root / "store", root / "out")
    return FeatureManifest.model_validate_json((root / "out" / "manifest.json").read_bytes())


def _requests(moment: datetime) -> pl.DataFrame:
    rows = read_examples(moment, moment + timedelta(hours=12)).sort("example_id")
    unknown = pl.DataFrame({"shop": ["yew"], "amount": [3.5], "hour": [4]})
    asked = pl.concat([rows.select("shop", "amount", "hour"), unknown])
    return asked.with_columns(event_time=pl.lit(moment).dt.cast_time_unit("us"))


def _read(reader: OnlineReader, moment: datetime) -> FeatureRows:
    return reader.read(_requests(moment).select("shop", "amount", "hour").to_dicts(), moment)


def test_redis_sqlite_and_the_offline_join_give_the_same_cells(
    settings: dict[str, str], manifest: FeatureManifest, tmp_path: Path
) -> None:
    publisher = FeaturePublisher(TASK, tmp_path / "store", _REPO)
    moments = [_NOW - timedelta(days=3, hours=6), _NOW - timedelta(hours=13), _NOW, _NOW + timedelta(days=3)]
    publisher.reset(moments[0])
    reader, local = cluster_reader(_REPO, settings, manifest), OnlineReader(tmp_path / "store", manifest)
    for moment in moments[:3]:
        publisher.advance(moment)
        materialize(TASK, _REPO, settings, moment, tables=True)
    checked = 0
    for moment in moments[2:]:
        redis, sqlite = _read(reader, moment), _read(local, moment)
        assert redis == sqlite
        checked += sum(value is not None for row in redis.rows for value in row.values())
    offline = offline_cells(FeatureHistory.of_store(TASK, tmp_path / "store"), _requests(_NOW), manifest.names)
    assert pl.DataFrame(_read(reader, _NOW).rows, schema=offline.cells.schema).equals(offline.cells)
    assert _read(reader, _NOW).as_of == offline.as_of
    assert checked > 100


def test_a_value_past_its_time_is_stale_and_an_unknown_key_is_only_missing(
    settings: dict[str, str], manifest: FeatureManifest
) -> None:
    materialize(TASK, _REPO, settings, _NOW, tables=True)
    reader, last = cluster_reader(_REPO, settings, manifest), datetime(2024, 4, 10, tzinfo=UTC)
    asked = [{"shop": "oak", "amount": 10.0, "hour": 3}, {"shop": "yew", "amount": 10.0, "hour": 3}]
    at_the_end = reader.read(asked, last + timedelta(days=3))
    too_late = reader.read(asked, last + timedelta(days=3, microseconds=1))
    old = {"shop_orders", "shop_mean_amount", "shop_return_rate", "amount_ratio"}
    assert (at_the_end.missing[0], at_the_end.stale[0]) == ((), ())
    assert set(too_late.stale[0]) == old
    assert (too_late.stale[1], set(too_late.missing[1])) == ((), old)


def test_integers_floats_nulls_and_nan_keep_their_value(
    settings: dict[str, str], manifest: FeatureManifest, tmp_path: Path
) -> None:
    """Integers beyond 2^53, the smallest float and a negative zero come back bit by bit; null and NaN are missing."""
    shops = ["ash", "birch", "cedar", "elm"]
    table = pl.DataFrame(
        {
            "event_timestamp": pl.Series([_NOW.replace(microsecond=123457)] * 4, dtype=pl.Datetime("us", "UTC")),
            "shop": shops,
            "shop_orders": pl.Series([2**60 + 1, -(2**63), 0, None], dtype=pl.Int64),
            "shop_mean_amount": [5e-324, -0.0, math.nan, None],
            "shop_return_rate": [0.1 + 0.2, 1.7976931348623157e308, None, math.nan],
        }
    )
    (tmp_path / "features/offline").mkdir(parents=True)
    table.write_parquet(tmp_path / "features/offline/shop_history.parquet")
    now = _NOW.replace(microsecond=123457)
    assert [materialize(TASK, _REPO, settings, moment)[0].rows for moment in (now, now + timedelta(hours=1))] == [4, 0]
    read = cluster_reader(_REPO, settings, manifest).read([{"shop": s, "amount": 1.0, "hour": 1} for s in shops], now)
    found = [tuple(row[name] for name in table.columns[2:]) for row in read.rows]
    assert found[:2] == [(2**60 + 1, 5e-324, 0.1 + 0.2), (-(2**63), 0.0, 1.7976931348623157e308)]
    assert math.copysign(1, found[1][1]) == -1
    assert found[2:] == [(0, None, None), (None, None, None)]
    reader, ash = cluster_reader(_REPO, settings, manifest), [{"shop": "ash", "amount": 1.0, "hour": 1}]
    assert reader.read(ash, now + timedelta(days=3)).stale == [()]
    assert reader.read(ash, now + timedelta(days=3, microseconds=1)).stale != [()]


def test_a_second_run_writes_what_is_new_and_a_third_nothing(settings: dict[str, str]) -> None:
    [first] = materialize(TASK, _REPO, settings, _NOW - timedelta(days=1), tables=True)
    [second] = materialize(TASK, _REPO, settings, _NOW, tables=True)
    [third] = materialize(TASK, _REPO, settings, _NOW)
    [earlier] = materialize(TASK, _REPO, settings, _NOW - timedelta(days=5))
    assert (first.rows, second.rows, third.rows, earlier.rows) == (6, 6, 0, 0)
    assert earlier.mark == third.mark == second.mark
    assert second.mark.newest == datetime(2024, 4, 10, tzinfo=UTC)


def test_an_emptied_redis_is_filled_again(settings: dict[str, str], manifest: FeatureManifest) -> None:
    materialize(TASK, _REPO, settings, _NOW, tables=True)
    before = _read(cluster_reader(_REPO, settings, manifest), _NOW)
    with cluster_store(_REPO, settings) as feast:
        feast.provider.online_store._get_client(feast.config.online_store).flushall()
    materialize(TASK, _REPO, settings, _NOW)
    assert _read(cluster_reader(_REPO, settings, manifest), _NOW) == before


@dataclasses.dataclass(frozen=True)
class Table:
    """The table behind an online store, and what is read from each of the two at a moment."""

    settings: dict[str, str]
    manifest: FeatureManifest
    path: Path

    def change(self, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
        """Write it anew."""
        change(pl.read_parquet(self.path)).write_parquet(self.path)

    def load(self, until: datetime, since: datetime | None = None) -> int:
        """How many keys a run writes."""
        return materialize(TASK, _REPO, self.settings, until, since)[0].rows

    def assert_same(self, moment: datetime) -> None:
        """Online at a moment is the offline join at that moment."""
        online = _read(cluster_reader(_REPO, self.settings, self.manifest), moment)
        history = FeatureHistory.at(TASK, _REPO, self.settings["SLUICE_FEATURES"])
        offline = offline_cells(history, _requests(moment), self.manifest.names).cells
        assert pl.DataFrame(online.rows, schema=offline.schema).equals(offline)


@pytest.fixture
def table(settings: dict[str, str], manifest: FeatureManifest, tmp_path: Path) -> Table:
    """Loaded up to ``_NOW``."""
    materialize(with_table(lambda rows: rows), _REPO, settings, _NOW, tables=True)
    return Table(settings, manifest, tmp_path / "features/offline/shop_history.parquet")


@pytest.mark.parametrize(
    ("name", "change", "written"),
    [
        ("nothing", lambda rows: rows, 0),
        ("another order", lambda rows: rows.reverse(), 0),
        ("late, older than the newest", lambda rows: late(rows, _NOW - timedelta(days=1), 98), 6),
        ("late, the newest", lambda rows: late(rows, _NOW - timedelta(minutes=5), 99), 6),
        ("late, at the mark", lambda rows: late(rows, _NOW, 99), 6),
        ("corrected", lambda rows: rows.with_columns(shop_orders=pl.lit(99, pl.Int64)), 6),
        ("corrected to null", lambda rows: rows.with_columns(shop_orders=pl.lit(None, pl.Int64)), 6),
        ("taken back", lambda rows: rows.filter(_NOW.replace(hour=0, minute=0) > MOMENT), 6),
        ("late, and expired", lambda rows: late(rows, _NOW - timedelta(days=3, microseconds=1), 99), 0),
    ],
)
def test_a_row_behind_the_mark_is_seen_online_as_offline(
    table: Table, name: str, change: Callable[[pl.DataFrame], pl.DataFrame], written: int
) -> None:
    table.change(change)
    assert table.load(_NOW) == written, name
    table.assert_same(_NOW)
    assert table.load(_NOW + timedelta(hours=1)) == 0
    table.assert_same(_NOW + timedelta(hours=1))


def test_what_comes_late_and_what_is_new_come_together(table: Table) -> None:
    table.change(lambda rows: late(late(rows, _NOW - TICK, 98), _NOW + TICK, 99))
    table.load(_NOW + timedelta(minutes=1))
    table.assert_same(_NOW + timedelta(minutes=1))


def test_a_time_to_write_from_again_writes_all_and_no_earlier_end(table: Table) -> None:
    assert table.load(_NOW + timedelta(minutes=2), since=_NOW - timedelta(days=2)) == 6
    with pytest.raises(BadInput, match="lies before"):
        table.load(_NOW, since=_NOW - timedelta(days=2))


def test_no_mark_lies_in_the_future_and_one_that_does_is_none(table: Table) -> None:
    now = datetime.now(UTC)
    for end in (now + timedelta(minutes=1), now + timedelta(days=400)):
        with pytest.raises(BadInput, match=r"until 20.*Z: lies in the future, whose rows nobody may see yet; leave it"):
            table.load(end)
    with cluster_store(_REPO, table.settings) as feast:
        mark = read_marks(feast)["shop_history"].model_copy(update={"until": now + timedelta(days=400)})
        feast.provider.online_store.write_mark(feast.config, "shop_history", mark.model_dump_json())
    table.change(lambda rows: late(rows, _NOW + timedelta(minutes=1), 99))
    assert table.load(_NOW + timedelta(minutes=2)) == 6
    table.assert_same(_NOW + timedelta(minutes=2))


@pytest.mark.parametrize("name", [*BROKEN, "infinity"])
def test_a_table_that_is_not_what_its_view_says_is_refused_before_a_row_is_written(
    settings: dict[str, str], tmp_path: Path, name: str
) -> None:
    change, says = BROKEN.get(name, (INFINITE, "is infinite in 1 of"))
    with pytest.raises(BadInput, match=says):
        materialize(with_table(change), _REPO, settings, _NOW, tables=True)
    assert not (tmp_path / "features").exists()
    path = tmp_path / "features/offline/shop_history.parquet"
    path.parent.mkdir(parents=True)
    change(history(TASK.splits.train, _NOW)).write_parquet(path)
    with pytest.raises(BadInput, match=says) as refusal:
        materialize(TASK, _REPO, settings, _NOW)
    assert str(path) in str(refusal.value)
    with cluster_store(_REPO, settings) as feast:
        assert read_marks(feast) == {}


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        (None, Unavailable, "cannot be read .*; write it first, or name another place"),
        (b"PAR1", BadInput, "is no parquet table"),
        (b"", BadInput, "is no parquet table"),
    ],
)
def test_a_file_that_is_no_table_is_named(
    settings: dict[str, str], tmp_path: Path, data: bytes | None, error: type[Exception], says: str
) -> None:
    path = tmp_path / "features/offline/shop_history.parquet"
    path.parent.mkdir(parents=True)
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(error, match=f"{path}: {says}"):
        materialize(TASK, _REPO, settings, _NOW)


@pytest.mark.parametrize("seconds", [0.5, 1.5, 0.000001, 86400.000001, 10**9])
def test_a_lifetime_ends_online_and_offline_at_the_same_microsecond(
    settings: dict[str, str], tmp_path: Path, seconds: float
) -> None:
    repo = tmp_path / "repo"
    shutil.copytree(_REPO, repo, ignore=shutil.ignore_patterns("__pycache__"))
    text = (_REPO / "definitions.py").read_text().replace("ttl=timedelta(days=3)", f"ttl=timedelta(seconds={seconds})")
    (repo / "definitions.py").write_text(text)
    materialize(with_table(lambda rows: rows), repo, settings, _NOW, tables=True)
    with cluster_store(repo, settings) as feast:
        reader = OnlineReader(feast, manifest_of(TASK, plan_of(feast, TASK.service)))
    path = FeatureHistory.at(TASK, repo, settings["SLUICE_FEATURES"])
    end = _NOW.replace(hour=0, minute=0) + timedelta(seconds=seconds)
    for moment, alive in ((end, True), (end + TICK, False)):
        asked = {"shop": "oak", "amount": 10.0, "hour": 3}
        request = pl.DataFrame([asked]).with_columns(event_time=pl.lit(moment).dt.cast_time_unit("us"))
        offline = offline_cells(path, request, ["shop_orders"])
        [row] = reader.read([asked], moment).rows
        assert (row["shop_orders"] is not None, offline.cells["shop_orders"][0] is not None) == (alive, alive)
        assert (offline.as_of[0] != {}) == alive


def test_changed_definitions_load_everything_again(settings: dict[str, str], tmp_path: Path) -> None:
    materialize(with_table(lambda rows: rows), _REPO, settings, _NOW, tables=True)
    repo = tmp_path / "repo"
    repo.mkdir()
    for path in _REPO.iterdir():
        if path.is_file():
            text = path.read_text().replace('        Field(name="shop_return_rate", dtype=Float64),\n', "")
            (repo / path.name).write_text(text)
    [again] = materialize(TASK, repo, settings, _NOW)
    assert again.rows == 6


def test_a_model_of_other_definitions_is_refused(settings: dict[str, str], manifest: FeatureManifest) -> None:
    other = manifest.model_copy(update={"service_digest": "sha256:" + "0" * 64})
    with pytest.raises(BadArtifact, match=r"feature service tiny: is .* in this image"):
        cluster_reader(_REPO, settings, other)


def test_a_feature_that_is_known_later_is_refused_before_anything_is_written(settings: dict[str, str]) -> None:
    task = dataclasses.replace(TASK, known_later=frozenset({"shop_orders"}))
    with pytest.raises(Refused, match="feature shop_orders of view shop_history"):
        materialize(task, _REPO, settings, _NOW, tables=True)
    with cluster_store(_REPO, settings) as feast:
        assert read_marks(feast) == {}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"SLUICE_REDIS": ""}, "environment variable SLUICE_REDIS: is not set"),
        ({"SLUICE_REDIS": "redis"}, "Redis redis: is not host:port"),
        ({"SLUICE_FEATURES": ""}, "environment variable SLUICE_FEATURES: is not set"),
    ],
)
def test_a_setting_that_is_wrong_is_named(settings: dict[str, str], change: dict[str, str], named: str) -> None:
    with pytest.raises(BadInput, match=named):
        materialize(TASK, _REPO, settings | change, _NOW)


def test_a_wrong_password_is_said_and_not_shown(settings: dict[str, str]) -> None:
    with pytest.raises(Unavailable, match=r"Redis 127\.0\.0\.1:\d+: does not answer \(.*check SLUICE_REDIS") as caught:
        materialize(TASK, _REPO, settings | {"SLUICE_REDIS_PASSWORD": "hunter2"}, _NOW)
    assert "hunter2" not in str(caught.value)


def test_a_reader_outlives_its_redis(tmp_path: Path, manifest: FeatureManifest) -> None:
    """Starts before Redis, fails clearly while it is away, answers as soon as it is back and loaded."""
    server = redis_server(tmp_path)
    settings = {"SLUICE_REDIS": f"127.0.0.1:{server.port}", "SLUICE_FEATURES": str(tmp_path / "features")}
    reader = cluster_reader(_REPO, settings, manifest)
    with pytest.raises(Unavailable, match="Redis 127"):
        _read(reader, _NOW)
    with pytest.raises(Unavailable, match="a moment ago"):
        _read(reader, _NOW)
    online = reader.feast.provider.online_store
    online._down_until = 0.0
    with running(server):
        materialize(TASK, _REPO, settings, _NOW, tables=True)
        before = _read(reader, _NOW)
        server.kill()
        with pytest.raises(Unavailable):
            _read(reader, _NOW)
        server.start()
        online._down_until = 0.0
        assert set(_read(reader, _NOW).missing[0]) >= {"shop_orders"}
        materialize(TASK, _REPO, settings, _NOW)
        assert _read(reader, _NOW) == before


def test_a_run_whose_redis_dies_leaves_its_mark_where_it_was_and_can_be_repeated(
    tmp_path: Path, manifest: FeatureManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = redis_server(tmp_path)
    settings = {"SLUICE_REDIS": f"127.0.0.1:{server.port}", "SLUICE_FEATURES": str(tmp_path / "features")}
    monkeypatch.setattr("sluice.features.materialize._ROWS_A_WRITE", 2)
    monkeypatch.setattr("sluice.features.materialize.messages", _killing(server, after=2))
    with running(server):
        server.command += ["--appendonly", "yes", "--appendfsync", "always"]
        server.kill()
        server.start()
        with pytest.raises(Unavailable, match="does not answer"):
            materialize(TASK, _REPO, settings, _NOW, tables=True)
        monkeypatch.undo()
        server.start()
        with cluster_store(_REPO, settings) as feast:
            assert read_marks(feast) == {}
        half = _read(cluster_reader(_REPO, settings, manifest), _NOW).rows
        materialize(TASK, _REPO, settings, _NOW)
        whole = _read(cluster_reader(_REPO, settings, manifest), _NOW).rows
    there = [(was, now) for was, now in zip(half, whole, strict=True) if was["shop_orders"] is not None]
    assert 0 < len(there) < len(half)
    assert all(was == now for was, now in there), "a row is whole and true, whichever run wrote it"
    assert sum(row["shop_orders"] is None for row in whole) == 1  # the shop that nobody knows


def _killing(server: Server, after: int) -> object:
    from sluice.features.publish import messages

    calls = []

    def then_kill(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) > after:
            server.kill()
        return messages(*arguments)  # type: ignore[arg-type]

    return then_kill


def test_freshness_tells_a_source_that_stands_still_from_a_run_that_does(settings: dict[str, str]) -> None:
    registry = CollectorRegistry()
    with cluster_store(_REPO, settings) as feast:
        registry.register(FeatureFreshness(feast, ["shop_history"]))
        assert set(_ages(registry).values()) == {math.inf}
        written = datetime.now(UTC)
        materialize(dataclasses.replace(TASK, read_feature_tables=_until_april), _REPO, settings, written, tables=True)
        ages = _ages(registry)
        assert ages["sluice_feature_materialized_seconds"] == pytest.approx(0, abs=120)
        newest = datetime(2024, 4, 10, tzinfo=UTC)
        expected = (datetime.now(UTC) - newest).total_seconds()
        assert ages["sluice_feature_freshness_seconds"] == pytest.approx(expected, abs=120)
        assert len(ages) == 2


def _until_april(start: datetime, end: datetime) -> Mapping[str, pl.DataFrame]:
    return read_feature_tables(start, min(end, _NOW))


def _ages(registry: CollectorRegistry) -> dict[str, float]:
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {sample.name: sample.value for family in families for sample in family.samples}
