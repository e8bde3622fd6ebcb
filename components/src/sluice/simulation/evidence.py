"""
Evidence about simulated requests: what ``collect_evidence`` would say of the same rows, without making rows.

A test holds the two against each other. What the blocks do not count is added by the measurements that have a simulated
twin. Left out is what no rule of the stage reads: strata in shadow, and slices and
latencies where the policy does not ask for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np

from sluice.arrays import Floats
from sluice.documents.event_time import iso
from sluice.documents.evidence import (
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
from sluice.evidence.collect import evidence_about
from sluice.evidence.measurements.measurement import Part
from sluice.evidence.measurements.registry import part_of_simulation
from sluice.evidence.minutes import millisecond_sums, minutes_of
from sluice.simulation.blocks import LossBlocks, block_table, documents_of
from sluice.simulation.counting import STILL, Side, Sums, Tally, tally_of, unchecked
from sluice.simulation.population import SLICES
from sluice.simulation.traffic import SimulatedTraffic
from sluice.simulation.watch import Glance, Watch, Windows

BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
_CELLS = 1000
_STILL = [0.0] * STILL


def evidence_of(state: ReleaseState, watch: Watch, glance: Glance, look: int, blocks: LossBlocks) -> Evidence:
    """The document that a look is given when window ``look`` begins."""
    now = clock(look * watch.traffic.scale.look_hours)
    parts = [_server_counts(state, watch, glance, now), _blocks(state, watch, glance, blocks)]
    evidence = evidence_about(state, Applied.of("0" * 40, state), now, parts)
    more = part_of_simulation(evidence)
    return evidence.model_copy(update=more) if more else evidence


def _blocks(state: ReleaseState, watch: Watch, glance: Glance, blocks: LossBlocks) -> Part:
    first, hours = glance.live.numbers.start, watch.traffic.scale.look_hours
    table = block_table(glance, first, blocks.windows, mirrored=state.is_mirrored)
    starts = [clock((first + number * blocks.windows) * hours) for number in table.number.tolist()]
    documents = documents_of(table, starts, mirrored=state.is_mirrored)
    return {"block_hours": blocks.windows * hours, "blocks": documents, "history": blocks.history}


def _server_counts(state: ReleaseState, watch: Watch, glance: Glance, now: str) -> Part:
    live, cohort, tally = glance
    n, world, shadow = int(tally.candidate.n), watch.traffic.world, state.is_mirrored
    return {
        "candidate": _arm(tally.candidate, state.since, now),
        "stable": _arm(tally.stable, state.since, now),
        "foreign": 0,
        "split": (int(tally.stable.n) - n * shadow, n),
        "strata": () if shadow else tuple(_strata(watch, cohort)),
        "pairs": _pairs(tally),
        "skew_n": n - int(tally.candidate.refused),
        "skew": {"feature": world.skew} if n else {},
        "cells": Cells(compared=_CELLS, different=round(world.mismatch * _CELLS)) if n else None,
        "timings": _timings(tally, live.bins).model_copy(update=millisecond_sums(glance.minutes)),
        "minutes": minutes_of(glance.minutes),
        "slices": dict(_slices(live, cohort, watch.traffic, shadow=shadow)),
    }


@lru_cache(maxsize=4096)
def clock(hours: float) -> str:
    """Hours since the rollout began, as the ISO time that documents carry."""
    return iso(BEGIN + timedelta(hours=hours))


def _arm(side: Side, since: str | None, now: str) -> dict[str, Any]:
    return {
        "n": int(side.n),
        "first": since if side.n else None,
        "last": now if side.n else None,
        "errors": int(side.errors),
        "due": int(side.due),
        "labelled": int(side.labelled),
        "loss": side.loss.moments(),
        "stale": int(side.stale),
        "refused": int(side.refused),
        "refused_alone": int(side.refused_alone),
    }


def _strata(watch: Watch, cohort: Sequence[Windows]) -> Iterator[Stratum]:
    for windows in cohort:
        for window, row in zip(windows.numbers, windows.changing.tolist(), strict=True):
            if min(row[0], row[9]) > 1:
                yield _known_stratum(watch, window, row)


def _known_stratum(watch: Watch, window: int, row: list[float]) -> Stratum:
    """A stratum that no new label changed is not made again."""
    latest = watch.strata.get(window)
    if latest and latest[0] == row:
        return latest[1]
    stratum = _stratum(name_of(window, watch.traffic.scale.look_hours), row)
    watch.strata[window] = (row, stratum)
    return stratum


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


def _imputed(side: Side) -> Imputed:
    return unchecked(Imputed, every=side.expected.known(), rectifier=side.rectifier.known())


def _pairs(tally: Tally) -> Pairs:
    shift, same = tally.pair_shift, None
    if shift.n:
        same = unchecked(Share, n=int(shift.n), hits=int(tally.agreed))
    return Pairs(shift=shift.moments(), loss=tally.pair_loss.moments(), agreement=same)


def _timings(tally: Tally, bins: Floats) -> Timings:
    candidate, stable = tally.candidate, tally.stable
    if not stable.milliseconds.n and not candidate.milliseconds.n:
        return Timings()
    counts = bins.sum(axis=0).astype(int).tolist() if len(bins) else ()
    return Timings(
        candidate=candidate.milliseconds.moments(),
        stable=stable.milliseconds.moments(),
        difference=tally.pair_milliseconds.moments(),
        candidate_bins=Histogram(counts=tuple(counts[0])) if counts and candidate.n else None,
        stable_bins=Histogram(counts=tuple(counts[1])) if counts and stable.n else None,
    )


def _slices(
    live: Windows, cohort: Sequence[Windows], traffic: SimulatedTraffic, *, shadow: bool
) -> Iterator[tuple[str, SliceEvidence]]:
    if not len(live.slices):
        return
    shares = live.shares.sum(axis=0).tolist()
    pairs = live.slices.sum(axis=0)[:, :3].tolist() if shadow else [[]] * SLICES
    numbers = [number for windows in cohort for number in windows.numbers]
    rows = [] if shadow else np.concatenate([windows.slices for windows in cohort]).transpose(1, 0, 2).tolist()
    for part, (n, errors, others, failures) in enumerate(shares):
        if n + others == 0:
            continue
        yield (
            f"part={part:02}",
            unchecked(
                SliceEvidence,
                candidate=unchecked(Share, n=int(n), hits=int(errors)) if n else None,
                stable=unchecked(Share, n=int(others), hits=int(failures)) if others else None,
                strata=tuple(_sliced(numbers, rows[part], traffic.scale.look_hours)) if rows else (),
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
