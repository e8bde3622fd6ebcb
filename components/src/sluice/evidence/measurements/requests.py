"""Requests, refusals, failures and latencies of each arm, and where requests went; a cluster's servers count these."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from sluice.documents.event_time import iso
from sluice.documents.evidence import SIDES, Evidence, Timings
from sluice.evidence.measurements.measurement import Measurement, Part, StageRows
from sluice.evidence.measurements.points import DataPoint, PointIndex
from sluice.evidence.minutes import millisecond_sums
from sluice.evidence.moments import histogram, moments
from sluice.evidence.rows import failed, refused

_NO_REQUESTS = {"n": 0, "first": None, "last": None, "errors": 0}


def _from_rows(rows: StageRows) -> Part:
    arms = {side: _arm(rows.served[side], rows.refused[side]) for side in SIDES}
    return {**arms, "foreign": _foreign(rows), "split": _split(rows, rows.live), **_recent(rows)}


def _arm(rows: pl.DataFrame, refusals: pl.DataFrame) -> dict[str, Any]:
    times, alone = rows.filter(~refused())["event_time"], int(refusals["alone"].sum())
    gaps = [pl.col(name) > 0 for name in ("missing", "stale") if name in rows.columns]
    return {
        "n": rows.height + refusals.height - alone,
        "first": iso(times[0]) if len(times) else None,
        "last": iso(times[-1]) if len(times) else None,
        "errors": int(rows.select(failed().sum()).item()),
        "stale": rows.filter("ok", pl.any_horizontal(gaps)).height if gaps else 0,
    }


def _foreign(rows: StageRows) -> int:
    """Answers on either route by a digest that is not released there."""
    state, answered = rows.state, rows.live.filter(pl.col("digest").is_not_null(), ~refused())
    released = {"stable": state.stable, state.joined_route: state.candidate}
    return sum(
        answered.filter(pl.col("route") == route, pl.col("digest") != (digest or "")).height
        for route, digest in released.items()
    )


def _recent(rows: StageRows) -> Part:
    if rows.recent is None:
        return {}
    return {"recent": _split(rows, rows.live.filter(pl.col("event_time") >= rows.recent))}


def _split(rows: StageRows, live: pl.DataFrame) -> tuple[int, int]:
    route = rows.state.joined_route
    first = live.filter(pl.col("route") == "stable")["request_id"]
    second = live.filter(pl.col("route") == route)["request_id"]
    if rows.state.is_mirrored:
        mirrored = int(first.is_in(second.to_list()).sum())
        return len(first) - mirrored, mirrored
    return len(first), len(second)


def _from_points(_: PointIndex) -> Part:
    return {**dict.fromkeys(SIDES, _NO_REQUESTS), "foreign": 0, "split": (0, 0)}


def _timings(rows: StageRows) -> Part:
    """Moments over all answers but refusals; bins over those that a server timed itself, as its own metrics are."""
    candidate, stable = (rows.served[side].filter(~refused()) for side in SIDES)
    timed = [side.filter(pl.col("digest").is_not_null())["latency_ms"] for side in (candidate, stable)]
    timings = Timings(
        candidate=moments(candidate["latency_ms"]),
        stable=moments(stable["latency_ms"]),
        difference=moments(rows.pairs["latency_ms"] - rows.pairs["latency_ms_s"]),
        candidate_bins=histogram(timed[0]),
        stable_bins=histogram(timed[1]),
        **millisecond_sums(rows.by_minute),
    )
    return {"timings": timings}


def _refusals(rows: StageRows) -> Part:
    return {
        side: {"refused": refusals.height, "refused_alone": int(refusals["alone"].sum())}
        for side, refusals in rows.refused.items()
    }


def _refusal_points(evidence: Evidence) -> Iterator[DataPoint]:
    for side, arm in evidence.arms.items():
        yield DataPoint("refusals", {"route": side}, arm.refused)
        yield DataPoint("refusals_alone", {"route": side}, arm.refused_alone)


def _refusals_from_points(points: PointIndex) -> Part:
    names = {"refused": "refusals", "refused_alone": "refusals_alone"}
    return {side: {key: points.count(name, route=side) for key, name in names.items()} for side in SIDES}


REQUESTS = Measurement("requests", "Requests and failures of each arm.", _from_rows, _from_points)
REFUSALS = Measurement(
    "refusals",
    "Logged requests that a side refused; alone: those that the other side answered, in shadow.",
    _refusals,
    _refusals_from_points,
    _refusal_points,
    ("refusals",),
)
LATENCY = Measurement("latency", "Milliseconds of each answer.", _timings, lambda _: {"timings": Timings()})
