"""
Feast's Spark store for the same definitions: history that does not fit one machine.

What differs from the store that it extends, and why:

* the definitions' parquet tables are read as they are; Feast's wants every source written anew for Spark;
* the session's time zone is UTC: Feast's query turns times into text, and in a zone with summer time two hours of
  autumn are one;
* what comes back goes through Arrow: by way of pandas an integer column with a null becomes floats.

Named in ``feature_store.spark.yaml`` as ``sluice.features.spark.SparkOfflineStore``; needs the extra
``spark``, and Java.
"""

from __future__ import annotations

import copy
from typing import Any, Literal

import pyarrow as pa
from feast.infra.offline_stores.contrib.spark_offline_store import spark
from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource

from sluice.features.store import stored_view
from sluice.features.tables import open_table
from sluice.object_store import S3

_TYPE = "sluice.features.spark.SparkOfflineStore"


class SparkOfflineStoreConfig(spark.SparkOfflineStoreConfig):  # type: ignore[misc]
    """The configuration of Feast's store under a type of its own."""

    type: Literal["sluice.features.spark.SparkOfflineStore"] = _TYPE  # type: ignore[assignment]


class SparkRetrievalJob(spark.SparkRetrievalJob):  # type: ignore[misc]
    """Feast's job, by way of Arrow."""

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:  # noqa: ARG002 - Feast's signature
        return self.to_spark_df().toArrow()


class SparkOfflineStore(spark.SparkOfflineStore):  # type: ignore[misc]
    """See the module; everything else is inherited."""

    @staticmethod
    def get_historical_features(config: Any, feature_views: list[Any], *arguments: Any, **more: Any) -> Any:
        """Rows, values and refusals as of ``sluice.features.offline.AsofOfflineStore``, in no order."""
        session = spark.get_spark_session_or_start_new_with_repoconfig(config.offline_store)
        session.conf.set("spark.sql.session.timeZone", "UTC")
        views = [_for_spark(view) for view in feature_views]
        job = spark.SparkOfflineStore.get_historical_features(config, views, *arguments, **more)
        job.__class__ = SparkRetrievalJob
        return job


def _for_spark(view: Any) -> Any:
    copied, source = copy.copy(view), view.batch_source
    path = str(source.path)
    open_table(path, stored_view(view))
    copied.batch_source = SparkSource(
        name=source.name,
        path=f"s3a://{path.removeprefix(S3)}" if path.startswith(S3) else path,
        file_format="parquet",
        timestamp_field=source.timestamp_field,
    )
    return copied
