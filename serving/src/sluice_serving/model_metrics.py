"""
What a server counts about what goes into its model and what comes out, for people who watch.

    sluice_requests_refused_total{task,digest,part}              instances, by the part of the contract that was broken
    sluice_feature_missing_total{task,digest,feature}            cells without a value, whatever the reason
    sluice_feature_stale_total{task,digest,feature}              cells left empty because the value was past its time
    sluice_score{task,digest,route}                              histogram of the scores

Every series is there from the start. There are no more than the bundle has features, whatever clients send.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from sluice.models.request import CONTRACTS, Contract
from sluice_serving.metrics import ROUTES, cumulative

SCORE_BOUNDS = tuple(round(0.05 * step, 2) for step in range(1, 21))
_ENDS = (*map(str, SCORE_BOUNDS), "+Inf")


class ModelMetrics(Collector):
    """
    The counts of one server process.

    Args:
        features: names, of the bundle's manifest: nothing else becomes a label's value.
    """

    def __init__(self, task: str, digest: str, features: Iterable[str]) -> None:
        self._identity = [task, digest]
        self._refused = dict.fromkeys(CONTRACTS, 0)
        self._missing = dict.fromkeys(features, 0)
        self._stale = dict.fromkeys(self._missing, 0)
        self._scores = {route: ([0] * len(_ENDS), [0.0]) for route in ROUTES[:-1]}

    def count_refusal(self, part: Contract, n: int) -> None:
        """``n`` instances of a request that broke this part of its contract."""
        self._refused[part] += n

    def count_gaps(self, missing: Iterable[Sequence[str]], stale: Iterable[Sequence[str]]) -> None:
        """Names of missing and of stale features, a row each."""
        for counts, rows in ((self._missing, missing), (self._stale, stale)):
            for row in rows:
                for name in row:
                    counts[name] += 1

    def count_scores(self, route: str, scores: Sequence[float]) -> None:
        """Finite scores, each 0 to 1 by rights; what is above ends in the last bin."""
        bins, total = self._scores[route]
        for score in scores:
            bins[bisect_left(SCORE_BOUNDS, score)] += 1
        total[0] += sum(scores)

    def collect(self) -> Iterator[Metric]:
        """All families, for a scrape."""
        yield self._counter(
            "sluice_requests_refused", "Instances of requests that broke their contract.", "part", self._refused
        )
        yield self._counter("sluice_feature_missing", "Cells without a value.", "feature", self._missing)
        yield self._counter("sluice_feature_stale", "Cells whose value was past its time.", "feature", self._stale)
        scores = HistogramMetricFamily("sluice_score", "Scores given.", labels=["task", "digest", "route"])
        for route, (bins, total) in self._scores.items():
            scores.add_metric([*self._identity, route], cumulative(_ENDS, bins), total[0])
        yield scores

    def _counter(self, name: str, text: str, label: str, counts: dict[str, int] | dict[Contract, int]) -> Metric:
        family = CounterMetricFamily(name, text, labels=["task", "digest", label])
        for value, n in counts.items():
            family.add_metric([*self._identity, value], n)
        return family
