"""The server's requests once more, under the names of ``sluice.prometheus.seldon_names``, where they are asked for."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from sluice.documents.evidence import LATENCY_BOUNDS_MS
from sluice.prometheus.seldon_names import CLIENT, IDENTITY, SERVER, SERVICE, STATUSES, identity
from sluice_serving.metrics import cumulative

_BOUNDS_MS = LATENCY_BOUNDS_MS[::3]
"""Each twice the one before it."""
_ENDS = (*(str(round(bound / 1000, 7)) for bound in _BOUNDS_MS), "+Inf")


class SeldonMetrics(Collector):
    """
    Requests (not instances) by status, timed.

    Args:
        role: stable or candidate; their predictor's name.
    """

    def __init__(self, task: str, digest: str, role: str) -> None:
        self._labels = [*identity(task, role, digest).values(), SERVICE]
        self._bins = {status: [0] * len(_ENDS) for status in STATUSES}
        self._seconds = dict.fromkeys(STATUSES, 0.0)

    def count(self, status: str, milliseconds: float) -> None:
        """One request."""
        self._bins[status][bisect_left(_BOUNDS_MS, milliseconds)] += 1
        self._seconds[status] += milliseconds / 1000

    def collect(self) -> Iterator[Metric]:
        """Both histograms, for a scrape."""
        for name in (SERVER, CLIENT):
            family = HistogramMetricFamily(name, "Time of a request.", labels=[*IDENTITY, "service", "status"])
            for status, bins in self._bins.items():
                family.add_metric([*self._labels, status], cumulative(_ENDS, bins), self._seconds[status])
            yield family
