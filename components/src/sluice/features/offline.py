"""
Feast's DuckDB offline store with DuckDB's as-of join.

Same rows and values as the store that it extends. That one joins every row with its key's whole history and then keeps
the newest, which is quadratic where few keys have long histories; the as-of join looks each row up.
Named in ``feature_store.yaml`` as ``sluice.features.offline.AsofOfflineStore``.
"""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import duckdb
import ibis  # type: ignore[import-untyped]
import pandas as pd
from feast.infra.offline_stores import offline_utils
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore, DuckDBOfflineStoreConfig
from feast.infra.offline_stores.ibis import IbisRetrievalJob
from feast.infra.offline_stores.offline_store import RetrievalJob
from feast.on_demand_feature_view import OnDemandFeatureView

from sluice.errors import BadInput
from sluice.features.plan import StoredView
from sluice.features.store import stored_view
from sluice.features.tables import arrow_frame, open_table
from sluice.object_store import open_location

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset


class AsofOfflineStoreConfig(DuckDBOfflineStoreConfig):  # type: ignore[misc]
    """The configuration of the DuckDB store under a type of its own."""

    type: Literal["sluice.features.offline.AsofOfflineStore"] = "sluice.features.offline.AsofOfflineStore"


class AsofOfflineStore(DuckDBOfflineStore):  # type: ignore[misc]
    """DuckDB's store with another point-in-time join; everything else is inherited."""

    @staticmethod
    def get_historical_features(
        config: Any,
        feature_views: list[Any],
        feature_refs: list[str],
        entity_df: pd.DataFrame,
        registry: Any,
        project: str,
        full_feature_names: bool = False,
        **_: Any,
    ) -> RetrievalJob:
        """
        For every row of ``entity_df`` the newest value of each feature that is not younger than the row and not older
        than its view's time to live (to the microsecond, both ends included).

        Raises:
            BadInput: the rows come as SQL, full feature names are asked for, or a table is not what its view says.
            Unavailable: a table cannot be read.
        """
        if not isinstance(entity_df, pd.DataFrame) or full_feature_names:
            raise BadInput("historical features", "take a table of rows and short names here", "use the DuckDB store")
        moment = offline_utils.infer_event_timestamp_from_entity_df(dict(entity_df.dtypes))
        with duckdb.connect() as connection:
            # The planner takes a table in memory for a tiny one and would loop over all pairs.
            connection.execute("SET asof_loop_join_threshold = 0; SET TimeZone = 'UTC'")
            connection.register("rows", entity_df)
            for number, view in enumerate(feature_views):
                connection.register(f"t{number}", _checked_table(view))
            table = connection.sql(_query(feature_views, feature_refs, moment)).to_arrow_table()
        return IbisRetrievalJob(
            table=ibis.memtable(table),
            on_demand_feature_views=OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry),
            full_feature_names=False,
            metadata=None,
            data_source_writer=None,
            staging_location=None,
            staging_location_endpoint_override=None,
            repo_path=str(config.repo_path),
        )


def _checked_table(view: Any) -> Dataset:
    """The table of a view, where a join of it and an online store give the same values."""
    plain, location = stored_view(view), open_location(str(view.batch_source.path))
    table, _ = open_table(location.address, plain)
    with location.refusals("read"):
        info = location.files.get_file_info(location.path)
    _require_identity(location.address, plain, (info.mtime_ns, info.size))
    return table


@lru_cache(maxsize=256)
def _require_identity(address: str, view: StoredView, _: tuple[int | None, int | None]) -> None:
    """
    Once for a version of a table: no key or time is null, and no two rows of a time would be a matter of their order.
    Values were looked at when the table was written.
    """
    table, contract = open_table(address, view)
    rows = arrow_frame(table.to_table(columns=contract.identity))
    if contract.repeats(rows) or any(rows.null_count().row(0)):
        contract.distinct(arrow_frame(table.to_table(columns=contract.columns)))


def _query(feature_views: list[Any], feature_refs: list[str], moment: str) -> str:
    columns, joins = ["rows.*"], []
    for number, view in enumerate(feature_views):
        alias, source = f"v{number}", view.batch_source
        stamp = f"{alias}.{_quote(source.timestamp_field)}"
        names = [ref.split(":")[1] for ref in feature_refs if ref.split(":")[0] == view.projection.name_to_use()]
        columns += [_value(alias, name, stamp, moment, view.ttl) for name in names]
        keys = [f"rows.{_quote(column.name)} = {alias}.{_quote(column.name)}" for column in view.entity_columns]
        condition = " AND ".join([*keys, f"rows.{_quote(moment)} >= {stamp}"])
        joins.append(f"ASOF LEFT JOIN t{number} AS {alias} ON {condition}")
    return f"SELECT {', '.join(columns)} FROM rows {' '.join(joins)}"  # noqa: S608 - names come from our definitions


def _value(alias: str, name: str, stamp: str, moment: str, ttl: Any) -> str:
    value = f"{alias}.{_quote(name)}"
    if not ttl:
        return f"{value} AS {_quote(name)}"
    fresh = f"epoch_us(rows.{_quote(moment)}) - epoch_us({stamp}) <= {ttl // timedelta(microseconds=1)}"
    return f"CASE WHEN {fresh} THEN {value} END AS {_quote(name)}"


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
