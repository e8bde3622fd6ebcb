"""
Evidence from a Prometheus that scrapes the model servers and, for what needs labels, the exposition of a join.

All numbers are about the stage alone: queries pin the task, answers are counted by digest and route, and the window
begins when the stage does (and its first samples are in). What is not answered, or not answered well, is a line of
``Evidence.problems``; see ``sluice.prometheus.api`` for what counts as well. Prometheus sees what reached a
server: requests that the road itself failed are not in it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from sluice.documents.event_time import iso, moment_of
from sluice.documents.evidence import SIDES, Evidence, Histogram, Moments, Source, Timings
from sluice.documents.state import Applied, ReleaseState
from sluice.evidence.collect import evidence_about
from sluice.evidence.measurements.measurement import Part
from sluice.evidence.measurements.points import DataPoint, PointIndex
from sluice.evidence.measurements.registry import part_of_points, series
from sluice.evidence.minutes import millisecond_sums, minutes_of
from sluice.evidence.moments import rounded
from sluice.prometheus.api import BadAnswer, PrometheusApi
from sluice.prometheus.exposition import JOIN_TIME, PREFIX, about
from sluice.prometheus.minutes import MinuteReading
from sluice.prometheus.scrape_moments import nearest_to_plan, unseen_requests
from sluice.prometheus.server_counts import (
    START,
    Life,
    Reading,
    ServerStart,
    bins_of,
    comparable_from,
    restart_events,
    selector,
)

if TYPE_CHECKING:
    from sluice.gates.policy import GatePolicy

_T = TypeVar("_T")
_BEFORE_SECONDS = 3600
"""Between rollouts, in which the samples to count from are looked for."""


@dataclass(frozen=True)
class PrometheusSource:
    """
    One Prometheus; in a cluster ``now`` is the wall clock.

    Args:
        api: the server.
        matchers: labels that this installation adds to every series of ours, for example a namespace.
        settle_seconds: from the stage's start to the first sample that counts; two scrapes or more.
        fresh_seconds: age from which the newest sample of a server is too old.
        skew_seconds: by which the server's clock may differ from ours.
        joined: whether something exposes what needs labels; where it should and is silent, that is a problem.
        marked: whether the road tells servers by a header which side a request is for. A plain HTTPRoute does not: then
            all that a server was asked in the stage is its digest's, whatever header came, and the window begins when
            both sides had servers and ``fresh_seconds`` were over: before, the other side got all.
    """

    api: PrometheusApi
    matchers: Mapping[str, str] = field(default_factory=dict)
    settle_seconds: float = 60.0
    fresh_seconds: float = 60.0
    skew_seconds: float = 30.0
    joined: bool = True
    marked: bool = True

    def read(
        self,
        state: ReleaseState,
        policy: GatePolicy,
        applied: Applied,
        now: datetime,
        synced: datetime | None = None,
    ) -> Evidence:
        """The evidence at ``now``; never raises for what the server does."""
        self.api.begin()
        problems: list[str] = []
        settlement = (synced or moment_of(state.since or "")).timestamp() + self.settle_seconds
        if state.rollout is None:  # of a model that may serve for months, what came since the last look
            settlement = max(settlement, now.timestamp() - policy.online.oldest_hours * 3600)
        self._believed(lambda: self._check_clock(now), None, problems)
        begin = self._believed(lambda: self._begin(state, settlement, now), settlement, problems)
        lives: list[Life] = self._believed(lambda: self._lives(state, applied, begin, now), [], problems)
        unknown = part_of_points(PointIndex())
        labelled = unknown
        hours = policy.online.oldest_hours
        if self.joined:
            labelled = self._believed(lambda: self._labelled_part(state, now, hours), unknown, problems)
        split = self._believed(lambda: self._split(state, lives, begin, now), (0, 0), problems)
        by_minute: list[float] | None = self._believed(lambda: self._by_minute(state, begin, now), None, problems)
        recent = self._believed(lambda: self._recent(state, applied, begin, now, hours), None, problems)

        def document(lives: list[Life], labelled: Part) -> Evidence:
            counts = {**_server_counts(state, lives, labelled, by_minute), "split": split, "recent": recent}
            return evidence_about(state, applied, iso(now), [labelled, counts])

        evidence = self._believed(lambda: document(lives, labelled), document([], unknown), problems)
        return evidence.model_copy(update={"sources": self._sources(begin, now), "problems": tuple(problems)})

    def _believed(self, query: Callable[[], _T], nothing: _T, problems: list[str]) -> _T:
        """The answer, unless something is wrong already or with this; numbers that contradict are wrong too."""
        if problems:
            return nothing
        try:
            return query()
        except BadAnswer as error:
            problems.append(str(error))
        except (ValueError, ArithmeticError) as error:
            problems.append(f"prometheus: its numbers contradict each other: {str(error).splitlines()[0]}")
        return nothing

    def _check_clock(self, now: datetime) -> None:
        ahead = self.api.clock() - now.timestamp()
        if abs(ahead) > self.skew_seconds:
            side = "ahead of" if ahead > 0 else "behind"
            raise BadAnswer("time()", f"its clock is {abs(ahead):.0f} s {side} ours, {self.skew_seconds:g} are allowed")

    def _begin(self, state: ReleaseState, settlement: float, now: datetime) -> float:
        since = moment_of(state.since or "").timestamp()
        if self.marked or state.rollout is None or now.timestamp() < settlement:
            return settlement
        matchers = {**self.matchers, "task": state.task}
        start, span = selector(START, matchers), f"{now.timestamp() - since:.0f}s"
        step = f"{max(self.fresh_seconds / 2, 1):.0f}s"
        scraped = {
            frozenset(one.labels.items()): one.value
            for one in self.api.vector(f"min_over_time(timestamp({start})[{span}:{step}])", now.timestamp(), matchers)
        }
        starts = self.api.vector(f"min_over_time({start}[{span}])", now.timestamp(), matchers)
        servers = [
            ServerStart(labels.get("digest", ""), began, scraped.get(frozenset(labels.items()), now.timestamp()))
            for labels, began in ((one.labels, one.value) for one in starts)
        ]
        return comparable_from(servers, (state.stable, state.candidate), since, settlement, self.fresh_seconds)

    def _lives(self, state: ReleaseState, applied: Applied, begin: float, now: datetime) -> list[Life]:
        """Of all servers. A side that was read back was scraped lately; one that is lost counts to its last scrape."""
        end = now.timestamp()
        if end < begin + 1:
            return []  # the stage has hardly begun
        matchers = {**self.matchers, "task": state.task}
        routes = ("stable", state.candidate_route) if self.marked else ("stable", "candidate", "shadow")
        before = math.ceil(begin - moment_of(state.since or "").timestamp() + self.fresh_seconds)
        before = before if state.rollout else min(before, _BEFORE_SECONDS)
        reading = Reading(self.api, matchers, routes, begin, end, before, self.fresh_seconds)
        lives = reading.lives()
        for digest in (applied.candidate, applied.stable):
            if digest and not any(life.alive for life in lives if life.digest == digest):
                rule = f"no server of {digest[:19]} was seen in the last {self.fresh_seconds:g} s"
                raise BadAnswer(reading.queries()[2], rule)
        if self.marked:
            return lives
        return [life.on(state.candidate_route if life.digest == state.candidate else "stable") for life in lives]

    def _recent(
        self, state: ReleaseState, applied: Applied, begin: float, now: datetime, hours: float
    ) -> tuple[int, int] | None:
        """The split since the last look; ``None`` where that is all of the stage."""
        since = now.timestamp() - hours * 3600
        if since <= begin:
            return None
        return self._split(state, self._lives(state, applied, since, now), since, now)

    def _split(self, state: ReleaseState, lives: list[Life], begin: float, now: datetime) -> tuple[int, int]:
        stable, candidate = (sum(life.requests(road) for life in lives) for road in ("stable", state.candidate_route))
        others = max(stable - candidate, 0) if state.is_mirrored else stable
        unseen = self._unseen(state, begin, now)
        return nearest_to_plan(others, candidate, state.candidate_share / 100, unseen)

    def _by_minute(self, state: ReleaseState, begin: float, now: datetime) -> list[float] | None:
        """Of a rollout; nothing is compared between two."""
        if state.rollout is None:
            return None
        digests = {side: digest for side in SIDES if (digest := getattr(state, side))}
        routes = dict(zip(SIDES, (state.candidate_route, "stable"), strict=True)) if self.marked else None
        matchers = {**self.matchers, "task": state.task}
        return MinuteReading(self.api, matchers, digests, routes, begin, now.timestamp()).sums()

    def _unseen(self, state: ReleaseState, begin: float, now: datetime) -> int:
        if self.marked or now.timestamp() < begin + 1:
            return 0
        matchers = {**self.matchers, "task": state.task}
        return unseen_requests(self.api, matchers, begin, now.timestamp(), self.fresh_seconds)

    def _labelled_part(self, state: ReleaseState, now: datetime, hours: float) -> Part:
        labels = {**self.matchers, **about(state)}
        names = f"{PREFIX}(?:{'|'.join(('joined', *series()))})(?:_.+)?"
        query = f"last_over_time({selector(names, labels)}[{self.fresh_seconds:g}s])"
        points = [
            DataPoint(one.labels.get("__name__", "").removeprefix(PREFIX), one.labels, one.value)
            for one in self.api.vector(query, now.timestamp(), labels)
        ]
        for identity, n in Counter(point.identity for point in points).items():
            if n > 1:
                name = PREFIX + "/".join(filter(None, identity))
                raise BadAnswer(query, f"answers with several series for {name}")
        moment = PointIndex(points).value(JOIN_TIME)
        if moment is None:
            raise BadAnswer(query, "is empty: nothing exposes the numbers that need labels")
        age = now.timestamp() - moment
        if not -self.skew_seconds <= age <= hours * 3600:
            raise BadAnswer(query, f"the join is {age / 3600:g} hours old, 0 to {hours:g} are allowed")
        return part_of_points(PointIndex(points))

    def _sources(self, begin: float, now: datetime) -> tuple[Source, ...]:
        first = iso(min(datetime.fromtimestamp(begin, UTC), now))
        last = moment = iso(now)
        return tuple(
            Source(name="prometheus", query=query, first=first, last=last, taken=moment, n=n)
            for query, n in self.api.queries
        )


def _server_counts(state: ReleaseState, lives: list[Life], labelled: Part, by_minute: list[float] | None) -> Part:
    """What servers count themselves; which of their refusals are failures, only a join can tell."""
    route = state.candidate_route
    roads = {"stable": state.stable, route: state.candidate}
    ours, theirs = _of(state.candidate, lives), _of(state.stable, lives)
    return {
        "candidate": _arm(ours, route, theirs, labelled["candidate"]),
        "stable": _arm(theirs, "stable", ours, labelled["stable"]),
        "foreign": sum(
            life.requests(road) - life.requests(road, "4xx")
            for life in lives
            for road, digest in roads.items()
            if life.digest != digest
        ),
        "timings": _timings(ours, route, theirs).model_copy(update=millisecond_sums(by_minute) if by_minute else {}),
        "minutes": minutes_of(by_minute, [side for side in SIDES if getattr(state, side)]) if by_minute else None,
    }


def _of(digest: str | None, lives: Iterable[Life]) -> list[Life]:
    return [life for life in lives if life.digest == digest]


def _arm(lives: list[Life], route: str, others: list[Life], joined: Part) -> dict[str, Any]:
    """
    Restarts are those of the servers that live now: of one that is gone nobody knows the hours. Of all that was refused
    as many are its alone as of the refusals that the join has.
    """
    living = [life for life in lives if life.alive]
    n, refused = (sum(life.requests(route, status) for life in lives) for status in ("", "4xx"))
    alone = round(refused * joined["refused_alone"] / max(joined["refused"], 1))
    last = max((life.last[route] for life in lives), default=0.0)
    return {
        "n": n,
        "first": None,
        "last": iso(datetime.fromtimestamp(last, UTC)) if n and last else None,
        "errors": sum(life.requests(route, "5xx") for life in lives) + alone,
        "stale": round(sum(life.of("sluice_features_stale_total", route) for life in lives)),
        "refused": refused,
        "refused_alone": alone,
        "restarts": restart_events(_restarts(living), _restarts(others)) if living else None,
        "hours": sum(life.hours for life in living) if living else None,
    }


def _restarts(lives: Iterable[Life]) -> Iterable[float]:
    return (moment for life in lives for moment in life.restarts)


def _timings(candidate: list[Life], route: str, stable: list[Life]) -> Timings:
    ours, theirs = _latency(candidate, route), _latency(stable, "stable")
    return Timings(candidate=ours[0], candidate_bins=ours[1], stable=theirs[0], stable_bins=theirs[1])


def _latency(lives: list[Life], route: str) -> tuple[Moments | None, Histogram | None]:
    counts = bins_of(lives, route)
    if not (n := sum(counts)):
        return None, None
    total = sum(life.of("sluice_request_latency_seconds_sum", route) for life in lives)
    squares = sum(life.of("sluice_request_latency_squared_seconds_total", route) for life in lives)
    variance = max(squares - total * total / n, 0.0) / (n - 1) if n > 1 else 0.0
    moments = Moments(n=n, mean=rounded(1000 * total / n), variance=rounded(1e6 * variance))
    return moments, Histogram(counts=counts)
