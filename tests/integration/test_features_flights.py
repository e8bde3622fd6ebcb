"""The flights' features: true to what was known, the same online and offline, closed to what is known later."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from sluice.data.ingest import ingest
from sluice.errors import Refused
from sluice.features.build import build_features
from sluice.features.cluster import cluster_reader
from sluice.features.manifest import FeatureManifest
from sluice.features.materialize import materialize
from sluice.features.parity import FeatureHistory, offline_cells
from sluice.features.publish import FeaturePublisher
from sluice.features.reader import OnlineReader
from sluice.tasks.flights import TASK as YEAR
from sluice.tasks.task import Splits, Task
from tests.support.flights_by_hand import features_by_hand
from tests.support.servers import redis_server, running

_REPO = Path(__file__).parents[2] / "feature_repo"
_KEYS = (*YEAR.entity_keys, *YEAR.request_inputs)


def _night(month: int, day: int) -> datetime:
    return datetime(2013, month, day, 5, tzinfo=UTC)


WINTER: Task = dataclasses.replace(
    YEAR, splits=Splits(_night(1, 1), _night(1, 25), _night(2, 1), _night(2, 10), _night(2, 14))
)
"""The task with six weeks for a year."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``span``, ``store`` and ``out`` of a features step."""
    root = tmp_path_factory.mktemp("winter")
    ingest(WINTER, root / "span")
    build_features(WINTER, root / "span", _REPO, root / "store", root / "out")
    return root


@pytest.fixture(scope="module")
def frame(built: Path) -> pl.DataFrame:
    """The frame of the features step."""
    return pl.read_parquet(built / "out" / "frame.parquet")


@pytest.fixture(scope="module")
def manifest(built: Path) -> FeatureManifest:
    """The manifest of the features step."""
    return FeatureManifest.model_validate_json((built / "out" / "manifest.json").read_bytes())


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FeaturePublisher]:
    """A store that serves, and its publisher."""
    store = tmp_path_factory.mktemp("serving")
    return store, FeaturePublisher(WINTER, store, _REPO)


def _departures(start: datetime, end: datetime) -> pl.DataFrame:
    return WINTER.read_examples(start, end)


def test_sampled_rows_equal_a_recomputation_from_what_had_happened(frame: pl.DataFrame) -> None:
    """The last days of the frame, when the histories are long, one row in fifty of a shuffled sample."""
    late = frame.filter(pl.col("event_time") >= _night(2, 4)).sort("example_id").sample(20, seed=11, shuffle=True)
    early = frame.filter(pl.col("event_time") < _night(1, 5)).sample(3, seed=3)
    checked = 0
    for row in pl.concat([late, early]).iter_rows(named=True):
        for name, expected in features_by_hand(row, ("1", "2")).items():
            found = row[name]
            same = found == expected or (found is not None and found == pytest.approx(expected, rel=1e-12))
            assert same, (row["example_id"], name, found, expected)
            checked += found is not None
    assert checked > 500


def test_as_many_rows_come_out_as_went_in(built: Path, frame: pl.DataFrame) -> None:
    span = pl.read_parquet(built / "span" / "examples.parquet")
    labelled = span.filter(pl.col("label").is_not_null())
    assert frame["example_id"].to_list() == labelled["example_id"].to_list()
    assert span.height - frame.height == json.loads((built / "out" / "frame.json").read_text())["unlabelled"]


def test_every_feature_of_the_recipe_is_in_the_frame_and_rarely_empty(
    frame: pl.DataFrame, manifest: FeatureManifest
) -> None:
    assert set(YEAR.recipe.features) <= set(manifest.names) & set(frame.columns)
    empty = {name for name in YEAR.recipe.features if frame[name].null_count() > 0.2 * frame.height}
    assert empty <= {"wind_gust", "previous_arr_delay", "previous_dep_delay", "minutes_since_landing", "return_slack"}


def test_feasts_own_join_gives_the_same_rows(built: Path, frame: pl.DataFrame, tmp_path: Path) -> None:
    from sluice.features.store import historical, install_definitions, plan_of

    shutil.copytree(_REPO, tmp_path / "repo")
    config = (_REPO / "feature_store.yaml").read_text()
    (tmp_path / "repo" / "feature_store.yaml").write_text(
        config.replace("sluice.features.offline.AsofOfflineStore", "duckdb")
    )
    shutil.copytree(built / "store" / "offline", tmp_path / "store" / "offline")
    feast = install_definitions(tmp_path / "repo", tmp_path / "store", frozenset())
    assert type(feast.provider.offline_store).__name__ == "DuckDBOfflineStore"
    plan = plan_of(feast, WINTER.service)
    rows = frame.sample(400, seed=5, shuffle=True)
    names = [feature.name for feature in plan.features]
    assert historical(feast, plan, rows).equals(rows.select(names))


def test_online_reads_equal_the_offline_join_cell_by_cell(
    serving: tuple[Path, FeaturePublisher], manifest: FeatureManifest
) -> None:
    store, publisher = serving
    publisher.reset(_night(2, 10))
    reader = OnlineReader(store, manifest)
    served, held, asked = [], [], []
    moment = _night(2, 10)
    while moment < _night(2, 12):
        publisher.advance(moment)
        departures = _departures(moment, moment + timedelta(minutes=30))
        for row in departures[::4].iter_rows(named=True):
            read = reader.read([{name: row[name] for name in _KEYS}], row["event_time"])
            served += read.rows
            held += read.as_of
        asked.append(departures[::4])
        moment += timedelta(minutes=30)
    requests = pl.concat(asked)
    found = offline_cells(FeatureHistory.of_store(WINTER, store), requests, manifest.names)
    offline = found.cells
    online = pl.DataFrame(served, schema=offline.schema)
    assert any(found.as_of)
    for mine, theirs in zip(held, found.as_of, strict=True):
        assert theirs.items() <= mine.items(), "a row past its time to live is not found again"
    different = [name for name in manifest.names if not online[name].eq_missing(offline[name]).all()]
    assert requests.height > 300
    assert different == []


def test_a_reset_store_answers_as_one_that_was_advanced(
    serving: tuple[Path, FeaturePublisher], manifest: FeatureManifest
) -> None:
    store, publisher = serving
    moment = _night(2, 11) + timedelta(hours=15)
    rows = _departures(moment, moment + timedelta(minutes=30))
    instances = rows.select(_KEYS).to_dicts()
    publisher.reset(moment - timedelta(days=1))
    publisher.advance(moment)
    advanced = OnlineReader(store, manifest).read(instances, moment)
    publisher.reset(moment)
    assert OnlineReader(store, manifest).read(instances, moment) == advanced


def test_expired_values_are_missing_online_as_they_are_offline(
    serving: tuple[Path, FeaturePublisher], manifest: FeatureManifest
) -> None:
    """The publisher stops; three hours later the airport's activity has expired, the plane's seats have not."""
    store, publisher = serving
    published = _night(2, 11) + timedelta(hours=14)
    publisher.reset(published)
    flown = _departures(_night(2, 11), published).filter(pl.col("tailnum").is_in(["N503JB", "N11150", "N713EV"]))
    rows = flown if flown.height else _departures(_night(2, 11), published).head(3)
    reader, instances = OnlineReader(store, manifest), rows.select(_KEYS).to_dicts()
    fresh = reader.read(instances, published + timedelta(hours=2))
    expired = reader.read(instances, published + timedelta(hours=2, seconds=1))
    for before, after in zip(fresh.stale, expired.stale, strict=True):
        assert not any(name.startswith("airport_") for name in before)
        assert "airport_departures" in after
    assert all(row["airport_departures"] is None for row in expired.rows)
    a_day_later = reader.read(instances, published + timedelta(hours=25))
    assert all(row["return_slack"] is None and row["previous_arr_delay"] is None for row in a_day_later.rows)
    assert [row["plane_seats"] for row in a_day_later.rows] == [row["plane_seats"] for row in fresh.rows]


def test_redis_answers_as_sqlite_and_as_the_offline_join(
    serving: tuple[Path, FeaturePublisher], manifest: FeatureManifest, tmp_path: Path
) -> None:
    """Two runs an hour apart, then all departures of the next half hour: every cell is the same in all three."""
    store, publisher = serving
    moment = _night(2, 11) + timedelta(hours=15)
    publisher.reset(moment)
    (tmp_path / "features").mkdir()
    (tmp_path / "features/offline").symlink_to(store / "offline")
    server = redis_server(tmp_path)
    settings = {"SLUICE_REDIS": f"127.0.0.1:{server.port}", "SLUICE_FEATURES": str(tmp_path / "features")}
    requests = _departures(moment, moment + timedelta(minutes=30)).with_columns(
        event_time=pl.lit(moment).dt.cast_time_unit("us")
    )
    with running(server):
        for until in (moment - timedelta(hours=1), moment):
            loaded = materialize(WINTER, _REPO, settings, until)
        redis = cluster_reader(_REPO, settings, manifest).read(requests.select(_KEYS).to_dicts(), moment)
    assert redis == OnlineReader(store, manifest).read(requests.select(_KEYS).to_dicts(), moment)
    offline = offline_cells(FeatureHistory.of_store(WINTER, store), requests, manifest.names).cells
    assert pl.DataFrame(redis.rows, schema=offline.schema).equals(offline)
    assert requests.height > 20
    assert {view.view for view in loaded if view.rows} >= {"weather", "airport_activity", "previous_leg"}


def test_departure_delay_is_refused_as_a_feature(built: Path, tmp_path: Path) -> None:
    shutil.copytree(_REPO, tmp_path / "repo")
    text = (_REPO / "definitions.py").read_text()
    changed = text.replace('("plane_seats", "plane_age")', '("plane_seats", "plane_age", "dep_delay")')
    assert changed != text
    (tmp_path / "repo" / "definitions.py").write_text(changed)
    with pytest.raises(Refused, match="feature dep_delay of view plane: is known only after the prediction"):
        build_features(WINTER, built / "span", tmp_path / "repo", tmp_path / "store", tmp_path / "out")
    assert not (tmp_path / "out").exists()


_READ = """
import json, sys
from datetime import datetime
from pathlib import Path
from sluice.features.manifest import FeatureManifest
from sluice.features.reader import OnlineReader

store, manifest, asked = sys.argv[1:]
document = FeatureManifest.model_validate_json(Path(manifest).read_bytes())
given = json.loads(asked)
read = OnlineReader(Path(store), document).read(given["instances"], datetime.fromisoformat(given["now"]))
print(hash("seed"), json.dumps([read.rows, read.stale, read.missing]))
"""


def test_reading_does_not_depend_on_the_hash_seed(
    serving: tuple[Path, FeaturePublisher], manifest: FeatureManifest, built: Path
) -> None:
    """Another process with another seed reads the same, and finds the service's digest to be the manifest's."""
    store, publisher = serving
    moment = _night(2, 11) + timedelta(hours=15)
    publisher.reset(moment)
    instances = _departures(moment, moment + timedelta(minutes=30)).select(_KEYS).head(20).to_dicts()
    asked = json.dumps({"instances": instances, "now": moment.isoformat()})
    command = [sys.executable, "-W", "ignore", "-c", _READ, str(store), str(built / "out" / "manifest.json"), asked]
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    other = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    read = OnlineReader(store, manifest).read(instances, moment)
    assert other.returncode == 0, other.stderr
    seed, _, answer = other.stdout.partition(" ")
    assert int(seed) != hash("seed")
    assert answer.strip() == json.dumps([read.rows, read.stale, read.missing])
    assert [list(row) for row in read.rows] == [list(manifest.names)] * 20
