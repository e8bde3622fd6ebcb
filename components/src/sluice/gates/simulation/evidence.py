"""
Evidence about simulated requests: what ``collect_evidence`` would say of the same rows, without making rows.

A test holds the two against each other. Left out is what no rule of the stage reads: strata in shadow, and slices and
latencies where the policy does not ask for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np

from sluice.gates.simulation.counting import Counted, Road, Side, Sums, Tally, When, counted, tally_of, when
from sluice.gates.simulation.population import SLICES, Floats
from sluice.gates.simulation.traffic import BLOCK, Traffic
from sluice.monitoring.evidence import (
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
from sluice.release.state import Applied, ReleaseState, iso

BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
_CELLS = 1000
_STILL = [0.0] * 19


class Stretch(NamedTuple):
    """Windows of one stage."""

    first: int
    end: int
    road: Road


class Seen(NamedTuple):
    """Windows as one look sees them: arrays with one entry a window, columns as in ``Counted``."""

    windows: range
    changing: Floats
    fixed: Floats
    bins: Floats
    slices: Floats
    shares: Floats


class Watch:
    """Looks at one rollout; a block is counted once a road, and a stratum that no label changed is not made again."""

    def __init__(self, traffic: Traffic, maturity: float) -> None:
        """Nothing is seen yet; ``maturity``: hours after which a label is due."""
        self.traffic, self.maturity = traffic, maturity
        self._when: dict[int, When] = {}
        self._counted: dict[tuple[int, Road], Counted] = {}
        self._strata: dict[int, tuple[list[float], Stratum]] = {}

    def seen(self, stretch: Stretch, look: int) -> Seen:
        """The windows of a stretch as they are known when window ``look`` begins."""
        found = []
        for block in range(stretch.first // BLOCK, (stretch.end - 1) // BLOCK + 1):
            counts = self._block(block, stretch.road)
            windows = np.arange(max(stretch.first, block * BLOCK), min(stretch.end, (block + 1) * BLOCK))
            local = windows - block * BLOCK
            delay = np.minimum(look - windows, counts.changing.shape[1] - 1)
            kept = (column[local] if len(column) else column for column in (counts.fixed, counts.bins))
            sliced = (counts.slices[local, delay], counts.shares[local]) if len(counts.slices) else counts[3:]
            found.append((counts.changing[local, delay], *kept, *sliced))
        whole = found[0] if len(found) == 1 else [np.concatenate(parts) for parts in zip(*found, strict=True)]
        return Seen(range(stretch.first, stretch.end), *whole)

    def tally(self, stretch: Stretch, look: int) -> Tally:
        """All windows of a stretch together."""
        found = self.seen(stretch, look)
        return tally_of(found.changing.sum(axis=0).tolist(), found.fixed.sum(axis=0).tolist())

    def exposed(self, stretch: Stretch) -> int:
        """Requests that the candidate answered."""
        return int(self.seen(stretch, stretch.end).fixed[:, 0].sum())

    def stratum(self, window: int, row: list[float]) -> Stratum | None:
        """Of one row of ``changing``; ``None`` where an arm has fewer than two labels."""
        if row[0] < 2 or row[9] < 2:
            return None
        kept = self._strata.get(window)
        if kept and kept[0] == row:
            return kept[1]
        made = _stratum(name_of(window, self.traffic.scale.look_hours), row)
        self._strata[window] = (row, made)
        return made

    def _block(self, block: int, road: Road) -> Counted:
        key = (block, road)
        if key not in self._counted:
            if block not in self._when:
                self._when[block] = when(self.traffic, block, self.maturity)
            self._counted[key] = counted(self.traffic, block, road, self._when[block])
        return self._counted[key]


def share_of(traffic: Traffic, planned: int) -> float:
    """Share of the requests that truly reaches the candidate; a broken road loses some even of all."""
    return planned / 100 * traffic.world.road


def evidence_of(state: ReleaseState, watch: Watch, stage: Stretch, earlier: Sequence[Stretch], look: int) -> Evidence:
    """
    The document that a look is given when window ``look`` begins.

    Args:
        stage: windows of the state's own stage.
        earlier: canary windows, which confirm takes into its cohort.
    """
    live = watch.seen(stage, look)
    judged = [*(watch.seen(stretch, look) for stretch in earlier), live]
    labels = live.changing if not earlier else np.concatenate([seen.changing for seen in judged])
    mine = tally_of(labels.sum(axis=0).tolist(), live.fixed.sum(axis=0).tolist())
    now, n, world = clock(look * watch.traffic.scale.look_hours), int(mine.candidate.n), watch.traffic.world
    shadow = stage.road.shadow
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
            if found := watch.stratum(window, row):
                yield found


def _stratum(window: str, row: list[float]) -> Stratum:
    tally = tally_of(row, _STILL)
    candidate, stable = tally.candidate, tally.stable
    imputed: tuple[Imputed | None, Imputed | None] = (None, None)
    missing = candidate.due > candidate.labelled or stable.due > stable.labelled
    if missing and candidate.labelled and stable.labelled:
        imputed = _imputed(candidate), _imputed(stable)
    return Stratum(
        window=window,
        candidate=candidate.loss.known(),
        stable=stable.loss.known(),
        candidate_imputed=imputed[0],
        stable_imputed=imputed[1],
    )


def _imputed(found: Side) -> Imputed:
    return Imputed(every=found.expected.known(), rectifier=found.rectifier.known())


def _pairs(found: Tally) -> Pairs:
    shift, same = found.pair_shift, None
    if shift.n:
        same = Share(n=int(shift.n), hits=int(found.agreed))
    return Pairs(shift=shift.moments(), loss=found.pair_loss.moments(), agreement=same)


def _timings(found: Tally, bins: Floats) -> Timings:
    if not len(bins):
        return Timings()
    counts = bins.sum(axis=0).astype(int).tolist()
    return Timings(
        candidate=found.candidate.milliseconds.moments(),
        stable=found.stable.milliseconds.moments(),
        difference=found.pair_milliseconds.moments(),
        candidate_bins=Histogram(counts=tuple(counts[0])) if found.candidate.n else None,
        stable_bins=Histogram(counts=tuple(counts[1])) if found.stable.n else None,
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
            SliceEvidence(
                candidate=Share(n=int(n), hits=int(errors)) if n else None,
                stable=Share(n=int(others), hits=int(failures)) if others else None,
                strata=tuple(_sliced(windows, rows[part], traffic.scale.look_hours)) if rows else (),
                pairs=Sums(*pairs[part]).moments(),
            ),
        )


def _sliced(windows: Sequence[int], rows: Sequence[list[float]], hours: float) -> Iterator[Stratum]:
    for window, row in zip(windows, rows, strict=True):
        candidate, stable = Sums(*row[:3]), Sums(*row[3:])
        if min(candidate.n, stable.n) > 1:
            yield Stratum(window=name_of(window, hours), candidate=candidate.known(), stable=stable.known())


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
