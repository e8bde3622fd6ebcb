"""Evidence from the rows of the prediction log and the labels that are in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from sluice.data.divergence import FeatureProfile, divergence
from sluice.monitoring.evidence import Arm, Cells, Evidence, Moments, Pairs, Stratum, Timings
from sluice.release.state import Applied, ReleaseState, iso, moment_of

_CLIP = 1e-7
_DIGITS = 12


def collect_evidence(
    predictions: pl.DataFrame,
    labels: pl.DataFrame,
    state: ReleaseState,
    applied: Applied,
    profiles: Mapping[str, FeatureProfile],
    *,
    now: datetime,
    label_maturity_hours: float,
    cells: Cells | None = None,
) -> Evidence:
    """
    The evidence about ``state`` at ``now``.

    Args:
        predictions: every prediction of the rollout so far (``windows.read_rollout``); rows of earlier stages are
            left out here. Confirm takes its labels from canary and confirm together: the *cohort*.
        labels: example_id (= request_id), label, label_time; those with ``label_time > now`` are not looked at.
        profiles: of the candidate's bundle.
        cells: a sample of served features read again offline.
    """
    rows = _prepared(predictions, labels, now)
    live = rows.filter(pl.col("event_time") >= moment_of(state.since)) if state.since else rows.clear()
    cohort = rows.filter(pl.col("route") != "shadow") if state.stage == "confirm" else live
    route = "shadow" if state.stage == "shadow" else "candidate"
    due = now - timedelta(hours=label_maturity_hours)
    served = _of(live, route, state.candidate)
    return Evidence(
        task=state.task,
        environment=state.environment,
        rollout=state.rollout,
        stage=state.stage,
        step=state.step,
        since=state.since,
        now=iso(now),
        applied=applied,
        candidate=_arm(live, cohort, route, state.candidate, due),
        stable=_arm(live, cohort, "stable", state.stable, due),
        foreign=_foreign(live, {"stable": state.stable, route: state.candidate}),
        split=_split(live, route),
        strata=_strata(_of(cohort, route, state.candidate), _of(cohort, "stable", state.stable)),
        pairs=_pairs(_of(live, "shadow", state.candidate), _of(live, "stable", state.stable)),
        skew_n=served.height,
        skew=_skew(served, profiles),
        cells=cells,
        timings=Timings(
            candidate=_moments(served["latency_ms"]),
            stable=_moments(_of(live, "stable", state.stable)["latency_ms"]),
        ),
    )


def _prepared(predictions: pl.DataFrame, labels: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Predictions before ``now`` with ``label``, ``ok`` (a finite score) and ``loss`` (null without label or score)."""
    known = labels.filter(pl.col("label_time") <= now, pl.col("label").is_not_null())
    rows = predictions.filter(pl.col("event_time") < now).join(
        known.select(request_id="example_id", label=pl.col("label").cast(pl.Float64)).unique("request_id"),
        on="request_id",
        how="left",
    )
    if "window" not in rows.columns:
        rows = rows.with_columns(window=pl.col("event_time").dt.date().cast(pl.String))
    # an answer that failed before a model was asked carries no digest and still counts against its route
    rows = rows.with_columns(digest=pl.when(pl.col("digest") != "").then("digest"))
    ok = (pl.col("status") < 400) & pl.col("score").is_finite().fill_null(value=False)
    p = pl.col("score").clip(_CLIP, 1 - _CLIP)
    loss = -(pl.col("label") * p.log() + (1 - pl.col("label")) * (1 - p).log())
    rows = rows.with_columns(ok=ok).with_columns(loss=pl.when("ok").then(loss))
    return rows.sort("event_time", "request_id", "route")


def _of(rows: pl.DataFrame, route: str, digest: str | None) -> pl.DataFrame:
    return rows.filter(pl.col("route") == route, (pl.col("digest") == digest) | pl.col("digest").is_null())


def _foreign(rows: pl.DataFrame, digests: Mapping[str, str | None]) -> int:
    return sum(
        rows.filter(pl.col("route") == route, pl.col("digest").is_not_null()).height
        - (rows.filter(pl.col("route") == route, pl.col("digest") == digest).height if digest else 0)
        for route, digest in digests.items()
    )


def _arm(live: pl.DataFrame, cohort: pl.DataFrame, route: str, digest: str | None, due: datetime) -> Arm | None:
    if digest is None:
        return None
    rows, judged = _of(live, route, digest), _of(cohort, route, digest)
    mature = judged.filter("ok", pl.col("event_time") <= due)
    failed = ((pl.col("status") >= 500) | ((pl.col("status") < 400) & ~pl.col("ok"))).sum()
    times = rows["event_time"]
    return Arm(
        digest=digest,
        n=rows.height,
        first=iso(times[0]) if rows.height else None,
        last=iso(times[-1]) if rows.height else None,
        errors=int(rows.select(failed).item()),
        due=mature.height,
        labelled=int(mature["label"].is_not_null().sum()),
        loss=_moments(judged["loss"]),
    )


def _split(live: pl.DataFrame, route: str) -> tuple[int, int]:
    first = live.filter(pl.col("route") == "stable")["request_id"]
    second = live.filter(pl.col("route") == route)["request_id"]
    if route == "shadow":
        mirrored = int(first.is_in(second.to_list()).sum())
        return len(first) - mirrored, mirrored
    return len(first), len(second)


def _strata(candidate: pl.DataFrame, stable: pl.DataFrame) -> tuple[Stratum, ...]:
    found = []
    for window in sorted(set(candidate["window"]) & set(stable["window"])):
        first = _moments(candidate.filter(pl.col("window") == window)["loss"])
        second = _moments(stable.filter(pl.col("window") == window)["loss"])
        if first and second and min(first.n, second.n) > 1:
            found.append(Stratum(window=window, candidate=first, stable=second))
    return tuple(found)


def _pairs(shadow: pl.DataFrame, stable: pl.DataFrame) -> Pairs:
    columns = ["request_id", "score", "loss"]
    both = shadow.filter("ok").select(columns).join(stable.filter("ok").select(columns), on="request_id", suffix="_s")
    both = both.sort("request_id")
    return Pairs(shift=_moments((both["score"] - both["score_s"]).abs()), loss=_moments(both["loss"] - both["loss_s"]))


def _skew(served: pl.DataFrame, profiles: Mapping[str, FeatureProfile]) -> dict[str, float]:
    if served.is_empty():
        return {}
    vectors = [json.loads(text) if text else {} for text in served["features"]]
    return {
        name: _rounded(divergence(profiles[name], _column(vectors, name, profiles[name]))) for name in sorted(profiles)
    }


def _column(vectors: list[dict[str, Any]], name: str, profile: FeatureProfile) -> pl.Series:
    values = [vector.get(name) for vector in vectors]
    if profile.kind == "numeric":
        return pl.Series(name, [None if value is None else float(value) for value in values], pl.Float64)
    return pl.Series(name, [None if value is None else str(value) for value in values], pl.String)


def _moments(values: pl.Series) -> Moments | None:
    """Of the values that are there; numpy's summation order is fixed, so equal inputs give equal bits."""
    array = values.drop_nulls().to_numpy().astype(np.float64)
    if array.size == 0:
        return None
    variance = float(array.var(ddof=1)) if array.size > 1 else 0.0
    return Moments(n=int(array.size), mean=_rounded(float(array.mean())), variance=_rounded(variance))


def _rounded(value: float) -> float:
    return round(value, _DIGITS)
