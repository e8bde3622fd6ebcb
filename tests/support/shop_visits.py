"""A bundle, the definitions it was trained with, and rows for its online store."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from sluice.features.cluster import cluster_store
from sluice.features.materialize import ViewLoad, materialize
from sluice.features.store import plan_of
from tests.support import tiny_task
from tests.support.tiny_bundle import write_tiny_bundle

REPO = Path(__file__).parent / "shop_visits_repo"
SHOPS = {"oak": (3, "red"), "elm": (0, "blue"), "ash": (7, None)}
TASK = dataclasses.replace(
    tiny_task.TASK, feature_service="shop_visits", request_inputs={"amount": pl.Float64}, slices=()
)


def write_online_bundle(store: Path, threshold: float = 0.5) -> str:
    """Write the tiny bundle as trained with ``REPO``; returns its digest."""
    with cluster_store(REPO, {"SLUICE_REDIS": "nowhere:6379"}) as feast:
        return write_tiny_bundle(store, threshold, service_digest=plan_of(feast, "shop_visits").digest)


def load_shops(settings: Mapping[str, str], age: timedelta = timedelta(0)) -> ViewLoad:
    """Put ``SHOPS`` into the table and the online store, as known ``age`` ago."""
    moment = datetime.now(UTC) - age
    rows = [{"event_timestamp": moment, "shop": name, "visits": n, "colour": c} for name, (n, c) in SHOPS.items()]
    path = Path(settings["SLUICE_FEATURES"]) / "offline/shops.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows, schema_overrides={"event_timestamp": pl.Datetime("us", "UTC")}).write_parquet(path)
    [loaded] = materialize(TASK, REPO, settings, datetime.now(UTC), since=moment - timedelta(days=1))
    return loaded
