"""Tables and registry on a real S3 protocol server: read as they were written, and clear when it is away or refuses."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import polars as pl
import pytest
from feast import FeatureStore
from feast.repo_config import RepoConfig

from sluice.errors import Unavailable
from sluice.features.cluster import cluster_store
from sluice.features.materialize import materialize, read_marks
from sluice.features.parity import FeatureHistory, offline_cells
from sluice.features.publish import publish_tables
from sluice.features.store import historical, plan_of
from sluice.features.tables import code_of_tables, known_code
from tests.support.servers import Server, redis_server, running, s3_server, use_s3
from tests.support.tiny_task import TASK, read_examples

_REPO = Path(__file__).parents[1] / "support/tiny_feature_repo"
_NOW = datetime(2024, 4, 10, 12, 20, tzinfo=UTC)


@pytest.fixture(scope="module")
def s3() -> Iterator[Server]:
    """An S3 protocol server."""
    with running(s3_server()) as server:
        yield server


@pytest.fixture
def settings(s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """A process on the cluster with a bucket and a Redis of its own; both are empty."""
    use_s3(monkeypatch, s3)
    boto3.client("s3").create_bucket(Bucket=tmp_path.name.replace("_", "-"))
    with running(redis_server(tmp_path)) as server:
        bucket = tmp_path.name.replace("_", "-")
        yield {"SLUICE_REDIS": f"127.0.0.1:{server.port}", "SLUICE_FEATURES": f"s3://{bucket}/team/tiny"}


def test_history_from_s3_is_the_history_from_files(settings: dict[str, str], tmp_path: Path) -> None:
    materialize(TASK, _REPO, settings, TASK.splits.end, tables=True)
    local = publish_tables(TASK, tmp_path / "store", _REPO)
    rows = read_examples(_NOW - timedelta(days=9), _NOW).select("event_time", "shop", "amount", "hour")
    with cluster_store(_REPO, settings) as feast:
        plan = plan_of(feast, TASK.service)
        found = historical(feast, plan, rows)
    assert found.equals(historical(local, plan_of(local, TASK.service), rows))
    assert found.height > 300


def test_cells_are_read_again_from_s3_and_from_a_folder_as_from_a_store(
    settings: dict[str, str], tmp_path: Path
) -> None:
    """Features of the service alone, and some that are passed through; edges of the time to live among them."""
    folder = str(tmp_path / "features")
    for root in (settings["SLUICE_FEATURES"], folder):
        materialize(TASK, _REPO, settings | {"SLUICE_FEATURES": root}, TASK.splits.end, tables=True)
    publish_tables(TASK, tmp_path / "store", _REPO)
    midnight, day = datetime(2024, 4, 10, tzinfo=UTC), timedelta(days=1)
    last = TASK.splits.end - day
    instant = timedelta(microseconds=1)
    moments = [TASK.splits.train - day, midnight, midnight - instant, last + 3 * day, last + 3 * day + instant, last]
    times = pl.Series(moments, dtype=pl.Datetime("us", "UTC"))
    shops = ["oak", "oak", "elm", "elm", "elm", "yew"]
    rows = pl.DataFrame({"event_time": times, "shop": shops, "amount": 3.5, "hour": 7})
    local = FeatureHistory.of_store(TASK, tmp_path / "store")
    for names in (("amount_ratio", "shop_orders"), ("hour", "shop_mean_amount", "shop"), ("shop", "amount")):
        expected = offline_cells(local, rows, names)
        assert expected.cells.columns == list(names)
        for root in (settings["SLUICE_FEATURES"], f"{folder}/"):
            found = offline_cells(FeatureHistory.at(TASK, _REPO, root), rows, names)
            assert found.cells.equals(expected.cells)
            assert found.as_of == expected.as_of
    alone = offline_cells(FeatureHistory.at(TASK, _REPO, folder), rows[3:4], ["shop_orders"])
    assert alone.cells["shop_orders"][0] == offline_cells(local, rows, ["shop_orders"]).cells["shop_orders"][3]
    ages = offline_cells(local, rows, ["shop_orders"])
    assert ages.as_of == [{}, *({"shop_history": moment} for moment in (midnight, midnight - day, last)), {}, {}]
    assert [value is None for value in ages.cells["shop_orders"]] == [True, False, False, False, True, True]


def test_feasts_own_s3_registry_reads_what_a_run_published(settings: dict[str, str]) -> None:
    materialize(TASK, _REPO, settings, _NOW, tables=True)
    registry = f"{settings['SLUICE_FEATURES']}/registry.db"
    document = {"project": "tiny", "provider": "local", "registry": registry, "entity_key_serialization_version": 3}
    other = FeatureStore(config=RepoConfig(**document))
    source = other.get_feature_view("shop_history").batch_source
    assert source.path == f"{settings['SLUICE_FEATURES']}/offline/shop_history.parquet"
    assert [service.name for service in other.list_feature_services()] == ["tiny"]
    stamp = _head(registry)["LastModified"], _head(registry)["ETag"]
    materialize(TASK, _REPO, settings, _NOW + timedelta(minutes=1))
    assert (_head(registry)["LastModified"], _head(registry)["ETag"]) == stamp, "the same definitions, written once"


def _head(address: str) -> dict[str, object]:
    bucket, _, key = address.removeprefix("s3://").partition("/")
    found: dict[str, object] = boto3.client("s3").head_object(Bucket=bucket, Key=key)
    return found


def test_a_bucket_that_is_not_there_is_named(settings: dict[str, str]) -> None:
    elsewhere = settings | {"SLUICE_FEATURES": "s3://nowhere/tiny"}
    with pytest.raises(Unavailable, match=r"s3://nowhere/tiny/offline/shop_history\.parquet: cannot be written"):
        materialize(TASK, _REPO, elsewhere, _NOW, tables=True)
    with cluster_store(_REPO, settings) as feast:
        assert read_marks(feast) == {}


def test_an_object_store_that_is_away_or_refuses_leaves_the_online_store_as_it_was(
    settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    [done] = materialize(TASK, _REPO, settings, _NOW - timedelta(days=1), tables=True)
    assert known_code(settings["SLUICE_FEATURES"]) == code_of_tables(TASK)
    server = s3_server()
    use_s3(monkeypatch, server)
    with pytest.raises(Unavailable, match=r"applied\.json: cannot be read"):
        materialize(TASK, _REPO, settings, _NOW)
    server.environment["INITIAL_NO_AUTH_ACTION_COUNT"] = "0"  # every signature is checked from the first request on
    with running(server), pytest.raises(Unavailable, match=r"applied\.json: cannot be read .*ACCESS_DENIED"):
        materialize(TASK, _REPO, settings, _NOW)
    with cluster_store(_REPO, settings) as feast:
        assert read_marks(feast) == {"shop_history": done.mark}


def test_a_table_without_a_column_is_refused_by_name(settings: dict[str, str], tmp_path: Path) -> None:
    from sluice.errors import BadInput
    from sluice.object_store import open_location

    frame = pl.DataFrame({"event_timestamp": [_NOW], "shop": ["oak"], "shop_orders": [1], "shop_mean_amount": [1.0]})
    frame.write_parquet(tmp_path / "table.parquet")
    location = open_location(settings["SLUICE_FEATURES"]) / "offline" / "shop_history.parquet"
    location.write(tmp_path / "table.parquet")
    with pytest.raises(BadInput, match=r"offline/shop_history\.parquet: has no column 'shop_return_rate'"):
        materialize(TASK, _REPO, settings, _NOW)
