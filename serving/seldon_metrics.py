"""The server's requests once more, under the names of ``sluice.monitoring.seldon_names``, where they are asked for."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.metrics import ROUTES, cumulative
from sluice.monitoring.evidence import LATENCY_BOUNDS_MS
from sluice.monitoring.seldon_names import CLIENT, IDENTITY, SERVER, SERVICE, STATUSES, identity

_BOUNDS_MS = LATENCY_BOUNDS_MS[::3]
"""Each twice the one before it: 18 of them, so that three routes with three statuses stay below 400 series."""
_ENDS = (*(str(round(bound / 1000, 7)) for bound in _BOUNDS_MS), "+Inf")


class SeldonMetrics(Collector):
    """Requests (not instances) by route and status, timed."""

    def __init__(self, task: str, digest: str) -> None:
        self._labels = {route: list(identity(task, route, digest).values()) for route in ROUTES}
        self._bins = {(route, status): [0] * len(_ENDS) for route in ROUTES for status in STATUSES}
        self._seconds = dict.fromkeys(self._bins, 0.0)

    def ended(self, route: str, status: str, milliseconds: float) -> None:
        """One request; a route that means nothing counts as ``other``."""
        key = (route if route in self._labels else "other", status)
        self._bins[key][bisect_left(_BOUNDS_MS, milliseconds)] += 1
        self._seconds[key] += milliseconds / 1000

    def collect(self) -> Iterator[Metric]:
        """Both histograms, for a scrape."""
        for name in (SERVER, CLIENT):
            family = HistogramMetricFamily(name, "Time of a request.", labels=[*IDENTITY, "service", "status"])
            for (route, status), bins in self._bins.items():
                labels = [*self._labels[route], SERVICE, status]
                family.add_metric(labels, cumulative(_ENDS, bins), self._seconds[route, status])
            yield family
