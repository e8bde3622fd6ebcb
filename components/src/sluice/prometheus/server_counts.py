"""
Exact counts of servers that begin anew: what Prometheus' ``increase()`` would extrapolate, read from single samples.

A counter belongs to a process. ``sluice_server_start_time_seconds`` tells when a process gave way to another under the
same address; the counts of both lives are added up. No time is taken between samples, so nothing is extrapolated, and
a restart between two scrapes shows even where the new process has counted past the old one.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from sluice.documents.evidence import LATENCY_BOUNDS_MS
from sluice.prometheus.api import BadAnswer, PrometheusApi, Series

START = "sluice_server_start_time_seconds"
"""When a server process began, in seconds."""
_LAST = "sluice_last_request_timestamp_seconds"
_FAMILIES = (
    "sluice_requests_total",
    "sluice_request_latency_seconds_(?:bucket|sum)",
    "sluice_request_latency_squared_seconds_total",
    "sluice_features_stale_total",
    _LAST,
    START,
)
NAMES = "|".join(_FAMILIES)
_OWN = ("__name__", "route", "status", "cause", "le")
_MOST_RESTARTS = 50
_TOGETHER = 60
"""Seconds within which restarts are one event."""
Process = frozenset[tuple[str, str]]
OUTCOMES = (("2xx", ""), ("4xx", "request"), ("5xx", "features"), ("5xx", "model"))
"""What can become of an instance: status and cause."""
BIN_ENDS = (*(str(round(bound / 1000, 7)) for bound in LATENCY_BOUNDS_MS), "+Inf")
"""The latency bins in seconds, as ``le`` says them."""


class Key(NamedTuple):
    """A series of a server by the labels that are its own."""

    name: str
    route: str = ""
    status: str = ""
    cause: str = ""
    le: str = ""
    """Upper end of a latency bin."""


@dataclass(frozen=True)
class Life:
    """What one server process counted since a moment, restarts under the same address added up."""

    digest: str
    counts: Mapping[Key, float]
    last: Mapping[str, float]
    """Event time of the newest request by route; 0 before the first."""
    restarts: tuple[float, ...]
    """When it was seen last before it began anew, each time, in seconds."""
    alive: bool
    hours: float
    """Since the moment, or since it began."""

    def of(self, name: str, route: str, status: str = "", cause: str = "", le: str = "") -> float:
        """One count."""
        return self.counts.get(Key(name, route, status, cause, le), 0.0)

    def requests(self, route: str, status: str = "") -> int:
        """Instances asked about on a route, with any outcome or with one."""
        return round(
            sum(self.of("sluice_requests_total", route, *each) for each in OUTCOMES if status in {"", each[0]})
        )

    def on(self, route: str) -> Life:
        """The same with all that was asked on any route counted on this one."""
        counts: dict[Key, float] = {}
        for known, value in self.counts.items():
            key = known._replace(route=route if known.route else "")
            counts[key] = counts.get(key, 0.0) + value
        return replace(self, counts=counts, last={route: max(self.last.values())})


class Queries(NamedTuple):
    """What is asked in any case."""

    final: str
    """Newest counts."""
    first: str
    """Newest counts before the window."""
    scrapes: str
    """When each process was scraped last."""
    changes: str
    """How often a process gave way to another."""


@dataclass(frozen=True)
class Reading:
    """
    The servers' counts in ``(begin, end]``, seconds.

    Args:
        matchers: labels that every query pins: the task, and what the installation adds, such as a namespace.
        routes: those that must be there.
        before: seconds before ``begin`` in which the samples to count from are looked for; a scrape may fail.
        fresh: age in seconds of the newest sample, up to which a server counts as alive.
    """

    api: PrometheusApi
    matchers: Mapping[str, str]
    routes: tuple[str, ...]
    begin: float
    end: float
    before: float
    fresh: float

    @property
    def window(self) -> str:
        """As PromQL writes it."""
        return f"{round((self.end - self.begin) * 1000)}ms"

    def queries(self) -> Queries:
        """Of this window."""
        start, every = self._selector({}, START), self._selector({})
        return Queries(
            final=f"last_over_time({every}[{self.window}])",
            first=f"last_over_time({every}[{self.before:g}s])",
            scrapes=f"timestamp({start})",
            changes=f"changes({start}[{self.window}])",
        )

    def lives(self) -> list[Life]:
        """
        Of all processes seen in the window.

        Raises:
            BadAnswer: no answer, or one that breaks a rule.
        """
        final, first, last, changes = self.queries()
        newest = self._by_process(final, self.end)
        _require_single(final, newest)
        before = self._by_process(first, self.begin)
        moments = self._values(last, self.end)
        restarts = self._values(changes, self.end)
        lives = []
        for process, values in newest.items():
            _require_whole(final, values, self.routes)
            alive = self.end - moments.get(process, 0.0) <= self.fresh
            lives.append(self._life(process, values, before.get(process), restarts.get(process, 0.0), alive))
        return lives

    def _life(
        self, process: Process, values: dict[Key, float], base: dict[Key, float] | None, changes: float, alive: bool
    ) -> Life:
        began = values[Key(START)]
        parts, born, ends = [values], began, list[float]()
        if changes:
            ends, born = self._ends(process)
            parts = [*(self._at(process, moment) for moment in ends), values]
        if base is None and born < self.begin:
            text = "served before the stage began, and there is no sample from then"
            raise BadAnswer(self.queries().first, f"{_name_of(process)} {text}")
        if base and base.get(Key(START)) != born:
            base = None  # of a process that gave way before its next sample
        counts: Counter[Key] = Counter()
        for part in parts:
            counts.update({key: value for key, value in part.items() if key.name not in {START, _LAST}})
        counts.subtract({key: value for key, value in (base or {}).items() if key in counts})
        if backwards := [key for key, value in counts.items() if value < 0]:
            raise BadAnswer(self.queries().final, f"{_name_of(process)} counts {backwards[0].name} backwards")
        last = {route: max(part.get(Key(_LAST, route), 0.0) for part in parts) for route in self.routes}
        hours = (self.end - max(self.begin, born)) / 3600
        return Life(dict(process)["digest"], counts, last, tuple(ends), alive, hours)

    def _ends(self, process: Process) -> tuple[list[float], float]:
        """When each life but the last was seen last, and when the first began."""
        query = f"{self._selector(dict(process), START)}[{self.window}]"
        series = self.api.matrix(query, self.end, self.matchers)
        if len(series) != 1:
            raise BadAnswer(query, f"answers with {len(series)} series for one server")
        samples = series[0].samples
        ends = [before[0] for before, after in pairwise(samples) if before[1] != after[1]]
        if len(ends) > _MOST_RESTARTS:
            raise BadAnswer(query, f"{_name_of(process)} began anew {len(ends)} times, over {_MOST_RESTARTS}")
        return ends, samples[0][1]

    def _at(self, process: Process, moment: float) -> dict[Key, float]:
        query = self._selector(dict(process))
        counts = self._by_process(query, moment)
        if set(counts) != {process}:
            raise BadAnswer(query, f"answers about {len(counts)} servers, not about {_name_of(process)}")
        return counts[process]

    def _by_process(self, query: str, at: float) -> dict[Process, dict[Key, float]]:
        counts: dict[Process, dict[Key, float]] = {}
        for one in self.api.vector(query, at, self.matchers):
            key = Key(*(one.labels.get(label, "") for label in _OWN))
            counts.setdefault(_process(query, one), {})[key] = one.value
        return counts

    def _values(self, query: str, at: float) -> dict[Process, float]:
        return {_process(query, one): one.value for one in self.api.vector(query, at, self.matchers)}

    def _selector(self, labels: Mapping[str, str], name: str = NAMES) -> str:
        return selector(name, {**self.matchers, **labels})


class ServerStart(NamedTuple):
    """When a server's process began and when it was scraped first, in seconds."""

    digest: str
    began: float
    scraped: float


def comparable_from(
    servers: Iterable[ServerStart], digests: Iterable[str | None], since: float, begin: float, settle: float
) -> float:
    """
    The moment from which the counts of two sides can be held against each other.

    Not before ``begin``; not before a side that had no server at ``since`` has had one for ``settle`` seconds; and not
    between a server's first request and its first sample, or what it counted until then would be lost or be too much.
    """
    in_order = sorted(servers, key=lambda server: server.scraped)
    for digest in digests:
        ours = [server for server in in_order if server.digest == digest]
        if ours and min(server.began for server in ours) > since:
            begin = max(begin, ours[0].scraped + settle)
    for server in in_order:
        if since < server.began < begin < server.scraped:
            begin = server.scraped
    return begin


def restart_events(ours: Iterable[float], others: Iterable[float]) -> int:
    """
    How often servers of one side began anew: those within a minute of each other are one event, and what happens to the
    other side in the same minute is the node's, not the model's.

    Args:
        ours, others: moments in seconds, of the servers of either side.
    """
    theirs = list(others)
    alone = sorted(moment for moment in ours if all(abs(moment - other) > _TOGETHER for other in theirs))
    return sum(after - before > _TOGETHER for before, after in pairwise([-math.inf, *alone]))


def selector(names: str, labels: Mapping[str, str]) -> str:
    """``{__name__=~"…",task="…"}``; the values are quoted as PromQL quotes."""
    pinned = ",".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in labels.items())
    return f'{{__name__=~"{names}",{pinned}}}'


def bins_of(lives: Iterable[Life], route: str) -> tuple[int, ...]:
    """Counts in the latency bins, the cumulated ones taken apart."""
    totals = [sum(life.of("sluice_request_latency_seconds_bucket", route, le=le) for life in lives) for le in BIN_ENDS]
    return tuple(round(high - low) for low, high in zip([0.0, *totals], totals, strict=False))


def _process(query: str, one: Series) -> Process:
    if "digest" not in one.labels:
        raise BadAnswer(query, "has a series without a digest")
    return frozenset((key, value) for key, value in one.labels.items() if key not in _OWN)


def _require_single(query: str, counts: Mapping[Process, Mapping[Key, float]]) -> None:
    """Scraped twice, under two jobs or by two replicas, a process would count twice."""
    starts = Counter((dict(process)["digest"], values.get(Key(START))) for process, values in counts.items())
    for (digest, began), n in starts.items():
        if n > 1 and began is not None:
            raise BadAnswer(query, f"answers with several series, {n}, for one server of {digest[:19]}")


def _require_whole(query: str, values: Mapping[Key, float], routes: Iterable[str]) -> None:
    keys = [Key(START)]
    for route in routes:
        keys += [Key("sluice_requests_total", route, *outcome) for outcome in OUTCOMES]
        keys += [Key("sluice_request_latency_seconds_bucket", route, le=le) for le in BIN_ENDS]
        plain = ("latency_seconds_sum", "latency_squared_seconds_total")
        keys += [Key(f"sluice_request_{name}", route) for name in plain]
        keys += [Key(name, route) for name in ("sluice_features_stale_total", _LAST)]
    for key in keys:
        if key not in values:
            raise BadAnswer(query, f"has no series {'/'.join(part for part in key if part)} where each server has one")


def _name_of(process: Process) -> str:
    labels = dict(process)
    return f"{labels.get('instance', 'a server')} with {labels['digest'][:19]}"
