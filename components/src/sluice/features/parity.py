"""Were the served values the true ones? The same cells by a point-in-time join over the tables behind them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
from feast import FeatureStore

from sluice.errors import BadInput
from sluice.features.cluster import CLUSTER, apply_definitions
from sluice.features.plan import NO_SERVICE, FeaturePlan, StoredView
from sluice.features.publish import publish_tables
from sluice.features.store import historical, plan_of
from sluice.features.table_contract import MOMENT
from sluice.features.tables import known_code, table_rows
from sluice.tasks.task import Task

_TIME = "event_time"


@dataclass(frozen=True)
class OfflineCells:
    """Features of n requests as the training path makes them."""

    cells: pl.DataFrame
    """n rows in the order of the requests: one column a name, in the order of the names."""
    as_of: list[dict[str, datetime]]
    """For each request and view the ``event_timestamp`` of the row that is found: the newest that is not younger than
    the request, and not past its time to live; a view that has none is left out."""


@dataclass(frozen=True)
class FeatureHistory:
    """
    A task's feature definitions over tables in a folder.

    Attributes:
        feast: Feast's handle; its offline store reads ``folder``. Without a feature service there is none.
        folder: of ``<view>.parquet``.
        address: where the tables really lie, a folder or ``s3://bucket/prefix`` above ``offline/``. What a read needs
            of them is copied to ``folder`` first, so that all of it is from the same version of each table.
    """

    task: Task
    feast: FeatureStore | None
    folder: Path
    address: str | None = None
    _scratch: Any = field(default=None, repr=False)

    @classmethod
    def of_store(cls, task: Task, store: Path) -> FeatureHistory:
        """Of the feature store in a folder, which is brought up to date; errors as of ``publish_tables``."""
        feast = publish_tables(task, store) if task.feature_service else None
        return cls(task, feast, store / "offline")

    @classmethod
    def at(cls, task: Task, repo: Path, address: str) -> FeatureHistory:
        """
        Of the tables below ``address``, by the definitions in ``repo``; the tables need not be there yet.

        Raises:
            BadInput: there are no definitions in ``repo``.
        """
        if task.feature_service is None:
            return cls(task, None, repo)
        scratch = tempfile.TemporaryDirectory(prefix="sluice-history-")
        registry = {"registry_type": "file", "path": f"{scratch.name}/registry.db"}
        # History is read without an online store.
        feast = apply_definitions(
            repo, {"SLUICE_FEATURES": scratch.name}, CLUSTER, registry, {"connection_string": "nowhere:0"}
        )
        return cls(task, feast, Path(scratch.name) / "offline", address.rstrip("/"), scratch)

    @cached_property
    def plan(self) -> FeaturePlan:
        """Of the task's feature service."""
        return plan_of(self.feast, self.task.service) if self.feast else NO_SERVICE

    def code(self) -> str | None:
        """Digest of the code that built the tables, where that is known; errors as of ``known_code``."""
        return known_code(self.address or str(self.folder.parent))

    def fetch(self, view: StoredView, requests: pl.DataFrame) -> None:
        """Copy what the requests can see of a view's table; errors as of ``table_rows``."""
        import pyarrow as pa
        import pyarrow.compute as pc

        first, last = requests[_TIME].min(), requests[_TIME].max()
        moment, stamp = pc.field(MOMENT), pa.timestamp("us", "UTC")
        condition = moment <= pa.scalar(last, stamp)
        if view.lifetime is not None and isinstance(first, datetime):
            condition &= moment >= pa.scalar(first - view.lifetime, stamp)
        for key in view.keys:
            condition &= pc.field(key).isin(requests[key].unique().to_list())
        rows = table_rows(f"{self.address}/offline/{view.name}.parquet", view, condition)
        self.folder.mkdir(exist_ok=True)
        rows.write_parquet(self.folder / f"{view.name}.parquet")


def offline_cells(history: FeatureHistory, requests: pl.DataFrame, names: Sequence[str]) -> OfflineCells:
    """
    What the features called ``names`` were for each request at its time.

    Args:
        history: definitions and tables.
        requests: ``event_time`` (Datetime us UTC), entity keys and request inputs; n rows.
        names: features of the service, or entity keys and request inputs, which are passed through.

    Raises:
        BadInput: a name or a column is not there.
        Unavailable: the tables cannot be read.
    """
    task, whole = history.task, history.plan
    for column in (_TIME, *task.entity_keys, *task.request_inputs):
        if column not in requests.columns:
            raise BadInput(f"column {column}", "is missing in the requests", "pass what the servers were asked")
    # Of keys that are all null nobody knows the type.
    requests = requests.with_columns(pl.col(*task.entity_keys).cast(pl.String)) if task.entity_keys else requests
    known = {feature.name for feature in whole.features} | {*task.entity_keys, *task.request_inputs}
    for name in names:
        if name not in known:
            raise BadInput(f"feature {name}", f"is not in service {whole.service}", f"choose from {sorted(known)}")
    plan = whole.reduced(names)
    if history.address is not None:
        for view in plan.stored:
            history.fetch(view, requests)
    features = historical(history.feast, plan, requests, served=True)
    cells = [(features if name in features.columns else requests)[name] for name in names]
    return OfflineCells(pl.DataFrame(cells), _as_of(history.folder, plan.stored, requests))


def _as_of(folder: Path, views: Sequence[StoredView], requests: pl.DataFrame) -> list[dict[str, datetime]]:
    moments: list[dict[str, datetime]] = [{} for _ in range(requests.height)]
    for view in views:
        keyed = requests.select(pl.int_range(pl.len()).alias("n"), _TIME, *view.keys).sort(_TIME)
        rows = pl.scan_parquet(folder / f"{view.name}.parquet", glob=False).select(*view.keys, MOMENT)
        for key in view.keys:
            rows = rows.filter(pl.col(key).is_in(keyed[key].unique().to_list()))
        table = rows.sort(MOMENT).collect()
        matches = keyed.join_asof(table, left_on=_TIME, right_on=MOMENT, by=list(view.keys), check_sortedness=False)
        if view.lifetime is not None:
            matches = matches.filter(pl.col(_TIME) - pl.col(MOMENT) <= view.lifetime)
        for n, moment in matches.select("n", MOMENT).drop_nulls().iter_rows():
            moments[n][view.name] = moment
    return moments
