"""A Prometheus over the servers of a rollout in event time, which answers wrongly when it is told to."""

from __future__ import annotations

import copy
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from sluice.documents.event_time import moment_of
from sluice.documents.evidence import Evidence
from sluice.documents.state import Applied, ReleaseState
from sluice.gates.policy import GatePolicy
from sluice.prometheus.api import PrometheusApi, ReadingLimits
from sluice.prometheus.source import PrometheusSource
from sluice_serving.metrics import ServingMetrics
from tests.faults import sample
from tests.support.scripted_prometheus import ScriptedPrometheus, _vector, rows_of

SpoilAnswer = Callable[[str, dict[str, Any], float], Any]
"""From the kind of a query, the right answer (one's own) and the time asked about to what is said instead."""
_LIMITS = ReadingLimits(request_seconds=0.15, total_seconds=1.0, attempts=2, maximum_bytes=1 << 20)
_SLOW_SECONDS = 0.3


class Scraped(ScriptedPrometheus):
    """Counters of a stage's servers, which begin with the stage."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = 0.0
        self.spoilt = 0
        self._stage: str | None = None
        self._servers: dict[str, ServingMetrics] = {}
        self._minutes: dict[tuple[tuple[str, str], ...], dict[int, float]] = {}

    def answer(self, query: str, at: float) -> tuple[str, dict[str, Any]]:
        """In event time: the counts at the stage's start are asked for in the same words, about an earlier time."""
        if query == "time()":
            scalar = {"resultType": "scalar", "result": [self.clock, repr(self.clock)]}
            return "clock", {"status": "success", "data": scalar}
        if query.startswith("sum by"):
            return "minutes", {"status": "success", "data": {"resultType": "matrix", "result": self._by_minute()}}
        if query.startswith("last_over_time("):
            return ("counts", _vector(self.counts, at)) if at == self.clock else ("before", _vector(self.before, at))
        return super().answer(query, at)

    def serve(self, state: ReleaseState, frame: pl.DataFrame, now: datetime) -> None:
        """One window's answers."""
        if self._stage != state.since:
            self._stage = state.since
            self._servers = {one: ServingMetrics(state.task, one) for one in (state.stable, state.candidate) if one}
            for metrics in self._servers.values():
                metrics._start = (moment_of(state.since or "") - timedelta(minutes=10)).timestamp()
            self.before = self._rows()
            self._minutes = {}
        for row in frame.iter_rows(named=True):
            metrics, moment = self._servers[row["digest"]], row["event_time"]
            self._count_minute(state.task, row)
            if row["status"] >= 500:
                metrics.count_failures(row["route"], "model", 1, row["latency_ms"], moment)
            elif row["status"] >= 400:
                metrics.count_refusal(row["route"], 1)
            else:
                metrics.count_answers(row["route"], 1, 0, row["latency_ms"], moment)
        self.clock, self.counts = now.timestamp(), self._rows()

    def _count_minute(self, task: str, row: dict[str, Any]) -> None:
        labels = {"task": task, "digest": row["digest"], "route": row["route"]}
        minute = int(row["event_time"].timestamp() // 60) + 1
        status = "5xx" if row["status"] >= 500 else "2xx"
        for key, grown in (({"status": status}, 1.0), ({}, row["latency_ms"] / 1000)):
            counts = self._minutes.setdefault(tuple({**labels, **key}.items()), {})
            counts[minute] = counts.get(minute, 0.0) + grown

    def _by_minute(self) -> list[dict[str, Any]]:
        return [
            {
                "metric": dict(key),
                "values": [[60 * at, repr(n)] for at, n in sorted(counts.items()) if 60 * at <= self.clock],
            }
            for key, counts in self._minutes.items()
        ]

    def _rows(self) -> list[tuple[dict[str, str], float]]:
        return [row for digest, metrics in self._servers.items() for row in rows_of(metrics, digest[7:9])]

    def read(
        self, state: ReleaseState, policy: GatePolicy, applied: Applied, now: datetime, spoil: SpoilAnswer | None
    ) -> Evidence:
        """What the product's own source makes of the answers."""

        def spoiling(kind: str, document: dict[str, Any]) -> Any:
            said = spoil(kind, copy.deepcopy(document), self.clock) if spoil else document
            self.spoilt += said != document
            return said

        self.fault = spoiling
        with _nobody() if spoil is down else _here(self.url) as url:
            self.spoilt += spoil is down
            api = PrometheusApi(url, limits=_LIMITS, pause=lambda _: None)
            return PrometheusSource(api, joined=False).read(state, policy, applied, now)


@contextmanager
def _here(url: str) -> Iterator[str]:
    yield url


@contextmanager
def _nobody() -> Iterator[str]:
    """An address at which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def down(_: str, document: dict[str, Any], __: float) -> Any:
    """Never asked: there is no server."""
    return document


def error_page(_: str, __: dict[str, Any], ___: float) -> Any:
    """Status 503."""
    return 503, b"<h1>Service Unavailable</h1>"


def slow(kind: str, document: dict[str, Any], _: float) -> Any:
    """Longer than the source waits."""
    if kind != "counts":
        return document
    time.sleep(_SLOW_SECONDS)
    return 200, b"{}"


def value(text: str) -> SpoilAnswer:
    """The first count is ``text``."""

    def spoil(kind: str, document: dict[str, Any], _: float) -> Any:
        if kind == "counts":
            document["data"]["result"][0]["value"][1] = text
        return document

    return spoil


def empty(kind: str, document: dict[str, Any], _: float) -> Any:
    """No series at all."""
    if kind == "counts":
        document["data"]["result"].clear()
    return document


def _candidate(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in document["data"]["result"] if one["metric"].get("digest") == sample.digest("b")]


def two_series(kind: str, document: dict[str, Any], _: float) -> Any:
    """The candidate's server is scraped by a second job."""
    if kind == "counts":
        again = copy.deepcopy(_candidate(document))
        for one in again:
            one["metric"] |= {"job": "another"}
        document["data"]["result"] += again
    return document


def stale(kind: str, document: dict[str, Any], clock: float) -> Any:
    """The candidate's server was seen ten minutes ago."""
    if kind == "seen":
        for one in _candidate(document):
            one["value"][1] = repr(clock - 600)
    return document


def skewed(kind: str, document: dict[str, Any], clock: float) -> Any:
    """Its clock is five minutes ahead."""
    if kind == "clock":
        document["data"]["result"][1] = repr(clock + 300)
    return document


def other_revision(kind: str, document: dict[str, Any], _: float) -> Any:
    """The candidate's counts carry another digest."""
    if kind == "counts":
        for one in _candidate(document):
            one["metric"]["digest"] = sample.digest("c")
    return document
