"""Online features move with event time: every row is written once the clock has reached its ``event_timestamp``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from feast import FeatureStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

from sluice.arrays import Ints
from sluice.errors import BadInput
from sluice.features.plan import StoredView
from sluice.features.store import install_definitions, plan_of, service_views
from sluice.features.table_contract import MOMENT, TableContract
from sluice.features.tables import has_tables, origin_of_tables, task_tables, write_tables
from sluice.tasks.task import Task

OnlineRow = tuple[EntityKey, dict[str, Value], datetime, datetime | None]


def publish_tables(task: Task, store: Path, repo: Path | None = None) -> FeatureStore:
    """
    Bring the store that serves up to date: feature tables of ``[train, end)``, and the definitions.

    Nothing happens where they are there already. Training joins against a store of its own, whose tables end at
    ``live``: nothing that is replayed can reach it.

    Args:
        store: folder of the feature store; made when it is missing.
        repo: the feature definitions; those that the store already has when left out.

    Raises:
        BadInput: there are no definitions, or a table is not what its view says.
        Refused: a feature is known only later.
    """
    repo, made_of = repo or store / "repo", origin_of_tables(task, task.splits.end)
    if not has_tables(store, made_of):
        views = service_views(repo, task.service, task.known_later)
        write_tables(task_tables(task, task.splits.end, views), store, made_of)
    return install_definitions(repo, store, task.known_later)


class FeaturePublisher:
    """
    Writes stored features into the online store of ``store`` as event time passes.

    Args:
        task: the use case.
        store: folder of the feature store that serves; made or brought up to date by ``publish_tables``.
        repo: the feature definitions; those that the store already has when left out.

    Raises:
        BadInput: there are no definitions, or a view has no table or one that is not what it says.
        Refused: a feature is known only later.
    """

    def __init__(self, task: Task, store: Path, repo: Path | None = None) -> None:
        self._feast = publish_tables(task, store, repo)
        plan = plan_of(self._feast, task.service)
        offline = store / "offline"
        self._tables = tuple(_Stream.read(self._feast, view, offline / f"{view.name}.parquet") for view in plan.stored)
        self._last: datetime | None = None

    def reset(self, as_of: datetime) -> None:
        """
        Empty the online store, then load the newest row of every key that may be used at ``as_of``.

        Args:
            as_of: event time with a zone.
        """
        provider, config = self._feast.provider, self._feast.config
        views = [table.view for table in self._tables]
        provider.update_infra(config.project, views, [], [], [], partial=True)
        provider.update_infra(config.project, [], views, [], [], partial=True)
        for table in self._tables:
            self._write(table, table.newest(as_of))
        self._last = as_of

    def advance(self, to: datetime) -> None:
        """
        Write the rows with ``last < event_timestamp <= to``, where ``last`` is where the previous call ended.

        Args:
            to: event time with a zone.

        Raises:
            BadInput: there was no ``reset`` before, or ``to`` lies before ``last``.
        """
        if self._last is None or to < self._last:
            raise BadInput(f"advance to {to.isoformat()}", f"starts from {self._last}", "reset the publisher first")
        for table in self._tables:
            self._write(table, table.between(self._last, to))
        self._last = to

    def _write(self, table: _Stream, rows: pl.DataFrame) -> None:
        if rows.height:
            batch = list(messages(table.plan, rows))
            self._feast.provider.online_write_batch(self._feast.config, table.view, batch, None)


@dataclass(frozen=True)
class _Stream:
    """One view's rows in the order of their time."""

    view: Any
    plan: StoredView
    rows: pl.DataFrame
    moments: Ints
    """Microseconds since the epoch, ascending; one a row."""

    @classmethod
    def read(cls, feast: FeatureStore, view: StoredView, path: Path) -> _Stream:
        if not path.is_file():
            raise BadInput(str(path), "is missing", f"let Task.read_feature_tables give a table for view {view.name}")
        contract = TableContract(view, str(path), "remove tables.json beside its folder, so that it is built again")
        rows = contract.distinct(pl.read_parquet(path, glob=False)).select(contract.columns)
        rows = rows.sort(MOMENT, maintain_order=True)
        moments = rows[MOMENT].dt.epoch("us").to_numpy()
        return cls(view=feast.get_feature_view(view.name), plan=view, rows=rows, moments=moments)

    def newest(self, as_of: datetime) -> pl.DataFrame:
        known = self.rows.head(self._end(as_of))
        return known.unique(self.plan.keys, keep="last", maintain_order=True)

    def between(self, last: datetime, to: datetime) -> pl.DataFrame:
        """Rows in ``(last, to]``; oldest first, so that the last write of a key is its newest row."""
        start = self._end(last)
        return self.rows.slice(start, self._end(to) - start)

    def _end(self, moment: datetime) -> int:
        micros = (moment - _EPOCH) // timedelta(microseconds=1)
        return int(np.searchsorted(self.moments, micros, side="right"))


def messages(view: StoredView, rows: pl.DataFrame) -> Iterator[OnlineRow]:
    """The rows of a view's table, with ``columns_of(view)``, as Feast's online stores take them."""
    keys, count = list(view.keys), len(view.keys)
    names = [feature.name for feature in view.features]
    fields = [_FIELDS[feature.dtype] for feature in view.features]
    for row in rows.iter_rows():
        entity = EntityKey(join_keys=keys, entity_values=[Value(string_val=value) for value in row[:count]])
        cells = zip(names, fields, row[count:-1], strict=True)
        yield entity, {name: _value(field, value) for name, field, value in cells}, row[-1], None


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIELDS = {"float": "double_val", "int": "int64_val", "string": "string_val"}


def _value(field: str, value: Any) -> Value:
    """Null and NaN are an empty message: missing."""
    return Value() if value is None or value != value else Value(**{field: value})  # noqa: PLR0124
