"""
What a server counts about its own answers, for a Prometheus that decides between two digests.

    sluice_requests_total{task,digest,route,status,cause}       instances asked about: 2xx, 4xx and 5xx; a POST to a
                                                                path or model that is none here is a 4xx of one
    sluice_request_latency_seconds{task,digest,route}           of answers and of failures of ours, in the gate's bins
    sluice_request_latency_squared_seconds_total{…}             squares of the same, for their variance
    sluice_features_stale_total{task,digest,route}              answers that lacked a feature, or had one past its time
    sluice_last_request_timestamp_seconds{task,digest,route}    event time of the newest
    sluice_server_start_time_seconds{task,digest}               tells a process that began anew from one that counts on

kserve's own metrics beside them know a model's name only, and no errors. Every series is there from the start, at 0:
absence then means that something is wrong, never that nothing has happened yet. Whatever clients send, there are no
more: the label values are those of ``OUTCOMES`` and ``ROUTES``.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from sluice.documents.evidence import LATENCY_BOUNDS_MS
from sluice.prometheus.server_counts import BIN_ENDS, OUTCOMES

ROUTES = ("stable", "candidate", "shadow", "other")
"""``other``: a request whose route header means nothing; it was refused."""
Cause = Literal["features", "model"]
_ANSWERED, _REFUSED = OUTCOMES.index(("2xx", "")), OUTCOMES.index(("4xx", "request"))
_FAILED: dict[Cause, int] = {"features": OUTCOMES.index(("5xx", "features")), "model": OUTCOMES.index(("5xx", "model"))}


class _RouteCounts:
    """Plain numbers: they are changed by the event loop's one thread alone, and that is also where they are read."""

    __slots__ = ("bins", "last", "outcomes", "seconds", "squares", "stale")

    def __init__(self) -> None:
        self.outcomes = [0] * len(OUTCOMES)
        self.bins = [0] * len(BIN_ENDS)
        self.seconds = self.squares = self.last = 0.0
        self.stale = 0

    def time(self, n: int, milliseconds: float, moment: datetime) -> None:
        self.bins[bisect_left(LATENCY_BOUNDS_MS, milliseconds)] += n
        seconds = milliseconds / 1000
        self.seconds += n * seconds
        self.squares += n * seconds * seconds
        self.last = max(self.last, moment.timestamp())


class ServingMetrics(Collector):
    """The counts of one server process, which serves one digest of one task with one worker."""

    def __init__(self, task: str, digest: str) -> None:
        self._identity = [task, digest]
        self._start = time.time()
        self._routes = {route: _RouteCounts() for route in ROUTES}

    def count_answers(self, route: str, n: int, stale: int, milliseconds: float, moment: datetime) -> None:
        """``n`` scores, ``stale`` of them from a vector that lacked a feature or had one past its time to live."""
        counts = self._routes[route]
        counts.outcomes[_ANSWERED] += n
        counts.stale += stale
        counts.time(n, milliseconds, moment)

    def count_failures(self, route: str, cause: Cause, n: int, milliseconds: float, moment: datetime) -> None:
        """``n`` instances that got no score, which is our fault."""
        counts = self._routes[route]
        counts.outcomes[_FAILED[cause]] += n
        counts.time(n, milliseconds, moment)

    def count_refusal(self, route: str | None, n: int) -> None:
        """``n`` instances of a request that broke its contract; the header may say anything."""
        counts = self._routes.get(route or "stable")
        (counts or self._routes["other"]).outcomes[_REFUSED] += n

    def collect(self) -> Iterator[Metric]:
        """All families, for a scrape."""
        names = ["task", "digest", "route"]
        yield self._outcomes(names)
        latency = HistogramMetricFamily("sluice_request_latency_seconds", "Time in the server.", labels=names)
        squares = CounterMetricFamily("sluice_request_latency_squared_seconds", "Their squares.", labels=names)
        stale = CounterMetricFamily("sluice_features_stale", "Answers without a fresh vector.", labels=names)
        last = GaugeMetricFamily("sluice_last_request_timestamp_seconds", "Event time of the newest.", labels=names)
        for route in ROUTES[:-1]:  # nothing that was refused is timed
            labels, counts = [*self._identity, route], self._routes[route]
            latency.add_metric(labels, cumulative(BIN_ENDS, counts.bins), counts.seconds)
            squares.add_metric(labels, counts.squares)
            stale.add_metric(labels, counts.stale)
            last.add_metric(labels, counts.last)
        yield from (latency, squares, stale, last)
        start = GaugeMetricFamily("sluice_server_start_time_seconds", "When the process began.", labels=names[:2])
        start.add_metric(self._identity, self._start)
        yield start

    def _outcomes(self, names: list[str]) -> Metric:
        family = CounterMetricFamily("sluice_requests", "Instances asked about.", labels=[*names, "status", "cause"])
        for route, counts in self._routes.items():
            for series, n in zip(OUTCOMES, counts.outcomes, strict=True):
                family.add_metric([*self._identity, route, *series], n)
        return family


def cumulative(ends: Sequence[str], bins: Sequence[int]) -> list[tuple[str, float]]:
    """The bins of a histogram as Prometheus wants them: each with its upper end and all that is below it."""
    total, sums = 0, []
    for bound, n in zip(ends, bins, strict=True):
        total += n
        sums.append((bound, float(total)))
    return sums
