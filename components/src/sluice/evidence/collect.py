"""Evidence from the rows of the prediction log and the labels that are in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import polars as pl

from sluice.data.divergence import FeatureProfile, divergence
from sluice.documents.event_time import iso, moment_of
from sluice.documents.evidence import (
    Arm,
    Cells,
    Evidence,
    Imputed,
    Pairs,
    Share,
    Source,
    Stratum,
    Timings,
)
from sluice.documents.state import Applied, ReleaseState
from sluice.evidence.moments import histogram, label_delays, moments, moments_by, rounded
from sluice.evidence.rows import Types, decoded, failed, of_route, with_labels
from sluice.evidence.slices import slice_evidence
from sluice.stages.registry import STAGES
from sluice.tasks.task import Slice


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
    slices: Sequence[Slice] = (),
    carried: Types | None = None,
    thresholds: Mapping[str, float] | None = None,
    sources: Sequence[Source] = (),
) -> Evidence:
    """
    The evidence about ``state`` at ``now``.

    Args:
        predictions: every prediction of the rollout so far (``windows.read_rollout``); rows of earlier stages are
            left out here. Confirm takes its labels from canary and confirm together: the *cohort*.
        labels: example_id (= request_id), label, label_time; those with ``label_time > now`` are not looked at.
        profiles: of the candidate's bundle.
        cells: a sample of served features read again offline.
        slices: partitions to count apart; none by default.
        carried: what a request carries (``Task.entity_keys``, ``Task.request_inputs``), with types, for the slices.
        thresholds: score from which a digest decides positive; without them agreement is not known.
        sources: where predictions, labels and cells come from.
    """
    rows = with_labels(decoded(predictions, profiles, slices, carried or {}), labels, now)
    live = rows.filter(pl.col("event_time") >= moment_of(state.since)) if state.since else rows.clear()
    cohort = rows.filter(pl.col("route") != "shadow") if STAGES[state.stage].whole_rollout else live
    route = state.candidate_route
    due = now - timedelta(hours=label_maturity_hours)
    served, peers = of_route(live, route, state.candidate), of_route(live, "stable", state.stable)
    judged = of_route(cohort, route, state.candidate), of_route(cohort, "stable", state.stable)
    both = _both(of_route(live, "shadow", state.candidate), peers, slices)
    return Evidence(
        task=state.task,
        environment=state.environment,
        rollout=state.rollout,
        stage=state.stage,
        step=state.step,
        since=state.since,
        now=iso(now),
        applied=applied,
        candidate=_arm(served, judged[0], state.candidate, due),
        stable=_arm(peers, judged[1], state.stable, due),
        foreign=_foreign(live, {"stable": state.stable, route: state.candidate}),
        split=_split(live, route),
        strata=_strata(*judged, due),
        pairs=_pairs(both, thresholds or {}, state),
        skew_n=served.height,
        skew=_skew(served, profiles),
        cells=cells,
        timings=_timings(served, peers, both),
        slices=slice_evidence(slices, (served, peers), judged, both),
        sources=tuple(sources),
    )


def _foreign(rows: pl.DataFrame, digests: Mapping[str, str | None]) -> int:
    return sum(
        rows.filter(pl.col("route") == route, pl.col("digest").is_not_null()).height
        - (rows.filter(pl.col("route") == route, pl.col("digest") == digest).height if digest else 0)
        for route, digest in digests.items()
    )


def _arm(rows: pl.DataFrame, judged: pl.DataFrame, digest: str | None, due: datetime) -> Arm | None:
    if digest is None:
        return None
    mature = judged.filter("ok", pl.col("event_time") <= due)
    times = rows["event_time"]
    lacking = [pl.col(name) > 0 for name in ("missing", "stale") if name in rows.columns]
    return Arm(
        digest=digest,
        n=rows.height,
        first=iso(times[0]) if rows.height else None,
        last=iso(times[-1]) if rows.height else None,
        errors=int(rows.select(failed().sum()).item()),
        due=mature.height,
        labelled=int(mature["label"].is_not_null().sum()),
        loss=moments(judged["loss"]),
        stale=rows.filter("ok", pl.any_horizontal(lacking)).height if lacking else 0,
        delays=label_delays(judged),
    )


def _split(live: pl.DataFrame, route: str) -> tuple[int, int]:
    first = live.filter(pl.col("route") == "stable")["request_id"]
    second = live.filter(pl.col("route") == route)["request_id"]
    if route == "shadow":
        mirrored = int(first.is_in(second.to_list()).sum())
        return len(first) - mirrored, mirrored
    return len(first), len(second)


def _strata(candidate: pl.DataFrame, stable: pl.DataFrame, due: datetime) -> tuple[Stratum, ...]:
    arms = [moments_by(rows, ["window"], "loss") for rows in (candidate, stable)]
    imputed = [_imputed_by(rows, due) for rows in (candidate, stable)]
    found = []
    for key in sorted(arms[0].keys() & arms[1].keys()):
        first, second = (losses[key] for losses in arms)
        if min(first.n, second.n) > 1:
            ours, theirs = (one.get(key) for one in imputed)
            stratum = Stratum(window=key[0], candidate=first, stable=second)
            if ours and theirs and (ours.every.n > ours.rectifier.n or theirs.every.n > theirs.rectifier.n):
                stratum = stratum.model_copy(update={"candidate_imputed": ours, "stable_imputed": theirs})
            found.append(stratum)
    return tuple(found)


def _imputed_by(rows: pl.DataFrame, due: datetime) -> dict[tuple[str, ...], Imputed]:
    """By window, of the mature requests; a window of which no label is in has none."""
    mature = rows.filter("ok", pl.col("event_time") <= due).with_columns(rectifier=pl.col("loss") - pl.col("expected"))
    every, rectifier = (moments_by(mature, ["window"], column) for column in ("expected", "rectifier"))
    return {key: Imputed(every=every[key], rectifier=rectifier[key]) for key in rectifier}


def _both(shadow: pl.DataFrame, stable: pl.DataFrame, slices: Sequence[Slice]) -> pl.DataFrame:
    """Requests that both answered: the candidate's columns, stable's with ``_s``, and ``difference`` of the losses."""
    columns = ["request_id", "score", "loss", "latency_ms"]
    named = [*columns, *(f"slice_{each.name}" for each in slices)]
    both = shadow.filter("ok").select(named).join(stable.filter("ok").select(columns), on="request_id", suffix="_s")
    return both.sort("request_id").with_columns(difference=pl.col("loss") - pl.col("loss_s"))


def _pairs(both: pl.DataFrame, thresholds: Mapping[str, float], state: ReleaseState) -> Pairs:
    shift = moments((both["score"] - both["score_s"]).abs())
    return Pairs(shift=shift, loss=moments(both["difference"]), agreement=_agreement(both, thresholds, state))


def _agreement(both: pl.DataFrame, thresholds: Mapping[str, float], state: ReleaseState) -> Share | None:
    ours, theirs = (thresholds.get(digest or "") for digest in (state.candidate, state.stable))
    if both.is_empty() or ours is None or theirs is None:
        return None
    same = (both["score"] >= ours) == (both["score_s"] >= theirs)
    return Share(n=both.height, hits=int(same.sum()))


def _timings(served: pl.DataFrame, peers: pl.DataFrame, both: pl.DataFrame) -> Timings:
    """Moments over all answers; bins over those that a server timed itself, as its own metrics are."""
    candidate, stable = (rows.filter(pl.col("digest").is_not_null())["latency_ms"] for rows in (served, peers))
    return Timings(
        candidate=moments(served["latency_ms"]),
        stable=moments(peers["latency_ms"]),
        difference=moments(both["latency_ms"] - both["latency_ms_s"]),
        candidate_bins=histogram(candidate),
        stable_bins=histogram(stable),
    )


def _skew(served: pl.DataFrame, profiles: Mapping[str, FeatureProfile]) -> dict[str, float]:
    if served.is_empty():
        return {}
    vector = served["vector"].struct
    return {name: rounded(divergence(profiles[name], vector.field(name))) for name in sorted(profiles)}
