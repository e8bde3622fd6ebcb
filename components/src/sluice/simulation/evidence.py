"""
Evidence about simulated requests: what ``collect_evidence`` would say of the same rows, without making rows.

A test holds the two against each other. Left out is what no rule of the stage reads: strata in shadow, and slices and
latencies where the policy does not ask for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import numpy as np

from sluice.arrays import Floats
from sluice.documents.event_time import iso
from sluice.documents.evidence import (
    Arm,
    Cells,
    Evidence,
    Histogram,
    Imputed,
    Pairs,
    Share,
    SliceEvidence,
    Stratum,
    Timings,
)
from sluice.documents.state import Applied, ReleaseState
from sluice.simulation.counting import Side, Sums, Tally, tally_of, unchecked
from sluice.simulation.population import SLICES
from sluice.simulation.traffic import Traffic
from sluice.simulation.watch import Glance, Seen, Watch

BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
_CELLS = 1000
_STILL = [0.0] * 19


def evidence_of(state: ReleaseState, watch: Watch, found: Glance, look: int) -> Evidence:
    """The document that a look is given when window ``look`` begins."""
    live, judged, mine = found
    now, n, world = clock(look * watch.traffic.scale.look_hours), int(mine.candidate.n), watch.traffic.world
    shadow = state.stage == "shadow"
    return Evidence(
        task=state.task,
        environment=state.environment,
        rollout=state.rollout,
        stage=state.stage,
        step=state.step,
        since=state.since,
        now=now,
        applied=_applied(state),
        candidate=_arm(state.candidate, mine.candidate, state.since, now),
        stable=_arm(state.stable, mine.stable, state.since, now),
        foreign=0,
        split=(int(mine.stable.n) - n * shadow, n),
        strata=() if shadow else tuple(_strata(watch, judged)),
        pairs=_pairs(mine),
        skew_n=n,
        skew={"feature": world.skew} if n else {},
        cells=Cells(compared=_CELLS, different=round(world.mismatch * _CELLS)) if n else None,
        timings=_timings(mine, live.bins),
        slices=dict(_slices(live, judged, watch.traffic, shadow=shadow)),
    )


@lru_cache(maxsize=4096)
def clock(hours: float) -> str:
    """Hours since the rollout began, as the ISO time that documents carry."""
    return iso(BEGIN + timedelta(hours=hours))


def _arm(digest: str | None, found: Side, since: str | None, now: str) -> Arm:
    return Arm(
        digest=digest or "",
        n=int(found.n),
        first=since if found.n else None,
        last=now if found.n else None,
        errors=int(found.errors),
        due=int(found.due),
        labelled=int(found.labelled),
        loss=found.loss.moments(),
        stale=int(found.stale),
    )


def _strata(watch: Watch, judged: Sequence[Seen]) -> Iterator[Stratum]:
    for seen in judged:
        for window, row in zip(seen.windows, seen.changing.tolist(), strict=True):
            if min(row[0], row[9]) > 1:
                yield _kept(watch, window, row)


def _kept(watch: Watch, window: int, row: list[float]) -> Stratum:
    """A stratum that no new label changed is not made again."""
    kept = watch.strata.get(window)
    if kept and kept[0] == row:
        return kept[1]
    made = _stratum(name_of(window, watch.traffic.scale.look_hours), row)
    watch.strata[window] = (row, made)
    return made


def _stratum(window: str, row: list[float]) -> Stratum:
    tally = tally_of(row, _STILL)
    candidate, stable = tally.candidate, tally.stable
    imputed: tuple[Imputed | None, Imputed | None] = (None, None)
    missing = candidate.due > candidate.labelled or stable.due > stable.labelled
    if missing and candidate.labelled and stable.labelled:
        imputed = _imputed(candidate), _imputed(stable)
    return _plain_stratum(window, candidate.loss, stable.loss, imputed)


def _plain_stratum(
    window: str, candidate: Sums, stable: Sums, imputed: tuple[Imputed | None, Imputed | None]
) -> Stratum:
    return unchecked(
        Stratum,
        window=window,
        candidate=candidate.known(),
        stable=stable.known(),
        candidate_imputed=imputed[0],
        stable_imputed=imputed[1],
    )


def _imputed(found: Side) -> Imputed:
    return unchecked(Imputed, every=found.expected.known(), rectifier=found.rectifier.known())


def _pairs(found: Tally) -> Pairs:
    shift, same = found.pair_shift, None
    if shift.n:
        same = unchecked(Share, n=int(shift.n), hits=int(found.agreed))
    return Pairs(shift=shift.moments(), loss=found.pair_loss.moments(), agreement=same)


def _timings(found: Tally, bins: Floats) -> Timings:
    if not found.stable.milliseconds.n and not found.candidate.milliseconds.n:
        return Timings()
    counts = bins.sum(axis=0).astype(int).tolist() if len(bins) else ()
    return Timings(
        candidate=found.candidate.milliseconds.moments(),
        stable=found.stable.milliseconds.moments(),
        difference=found.pair_milliseconds.moments(),
        candidate_bins=Histogram(counts=tuple(counts[0])) if counts and found.candidate.n else None,
        stable_bins=Histogram(counts=tuple(counts[1])) if counts and found.stable.n else None,
    )


def _slices(
    live: Seen, judged: Sequence[Seen], traffic: Traffic, *, shadow: bool
) -> Iterator[tuple[str, SliceEvidence]]:
    if not len(live.slices):
        return
    shares = live.shares.sum(axis=0).tolist()
    pairs = live.slices.sum(axis=0)[:, :3].tolist() if shadow else [[]] * SLICES
    windows = [window for seen in judged for window in seen.windows]
    rows = [] if shadow else np.concatenate([seen.slices for seen in judged]).transpose(1, 0, 2).tolist()
    for part, (n, errors, others, failures) in enumerate(shares):
        if n + others == 0:
            continue
        yield (
            f"part={part:02}",
            unchecked(
                SliceEvidence,
                candidate=unchecked(Share, n=int(n), hits=int(errors)) if n else None,
                stable=unchecked(Share, n=int(others), hits=int(failures)) if others else None,
                strata=tuple(_sliced(windows, rows[part], traffic.scale.look_hours)) if rows else (),
                pairs=Sums(*pairs[part]).moments(),
            ),
        )


def _sliced(windows: Sequence[int], rows: Sequence[list[float]], hours: float) -> Iterator[Stratum]:
    for window, row in zip(windows, rows, strict=True):
        candidate, stable = Sums(*row[:3]), Sums(*row[3:])
        if min(candidate.n, stable.n) > 1:
            yield _plain_stratum(name_of(window, hours), candidate, stable, (None, None))


def name_of(window: int, hours: float) -> str:
    """Names that sort as the windows do."""
    return f"{window * hours:010.3f}"


def _applied(state: ReleaseState) -> Applied:
    """The servers do at once what Git says."""
    return Applied(
        commit="0" * 40,
        stable=state.stable,
        candidate=state.candidate,
        stable_weight=state.stable_weight,
        candidate_weight=state.candidate_weight,
        mirror_percent=state.mirror_percent,
    )
