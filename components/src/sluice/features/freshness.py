"""
How old is what the online store holds? For Prometheus, from whoever reads it.

    sluice_feature_freshness_seconds{feature_view}      since the newest row's event_timestamp
    sluice_feature_materialized_seconds{feature_view}   since the time up to which all rows were written

A source that stands still lets the first grow alone; a materialization that stands still lets both grow. Both are
infinite where nothing is known: a view that never was loaded, or a Redis that does not answer. There are as many series
as views, whatever is asked.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from datetime import datetime

from feast import FeatureStore
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sluice.errors import Unavailable
from sluice.features.materialize import ViewMark, read_marks


class FeatureFreshness(Collector):
    """
    Ages of ``views`` in the online store of ``feast``, read at each scrape.

    Args:
        feast: on Redis (``sluice.features.cluster``).
        views: names of stored views.
    """

    def __init__(self, feast: FeatureStore, views: Sequence[str]) -> None:
        self._feast, self._views = feast, tuple(views)

    def describe(self) -> Iterator[Metric]:
        """The names, without asking Redis."""
        return iter(_families())

    def collect(self) -> Iterator[Metric]:
        """Both families, for a scrape."""
        marks, now = self._marks(), time.time()
        freshness, materialization = _families()
        for view in self._views:
            mark = marks.get(view)
            freshness.add_metric([view], _age(now, mark.newest if mark else None))
            materialization.add_metric([view], _age(now, mark.until if mark else None))
        yield from (freshness, materialization)

    def _marks(self) -> dict[str, ViewMark]:
        try:
            return read_marks(self._feast)
        except Unavailable:
            return {}


def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
    labels = ["feature_view"]
    newest = GaugeMetricFamily("sluice_feature_freshness_seconds", "Since the newest row's event time.", labels=labels)
    return newest, GaugeMetricFamily("sluice_feature_materialized_seconds", "Since the last whole run.", labels=labels)


def _age(now: float, moment: datetime | None) -> float:
    return math.inf if moment is None else now - moment.timestamp()
