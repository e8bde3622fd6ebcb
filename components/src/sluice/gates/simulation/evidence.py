"""
Evidence about simulated requests: what ``collect_evidence`` would say of the same rows, without making rows.

A test holds the two against each other. Left out is what no rule of the stage reads: strata in shadow, and slices and
latencies where the policy does not ask for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from sluice.gates.simulation.counting import Counted, Road, Side, Sums, Tally, When, counted, tally_of, unchecked, when
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
_NOTHING = Tally(Side(), Side())
_ALL = np.arange(BLOCK)


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
    shares: Floats
    slices: Floats


class Watch:
    """Looks at one rollout; a block is counted once a road, and a stratum that no label changed is not made again."""

    def __init__(self, traffic: Traffic, maturity: float) -> None:
        """Nothing is seen yet; ``maturity``: hours after which a label is due."""
        self.traffic, self.maturity = traffic, maturity
        self._when: dict[int, When] = {}
        self._counted: dict[tuple[int, Road], Counted] = {}
        self._seen: dict[Stretch, tuple[int, Seen]] = {}
        self._strata: dict[int, tuple[list[float], Stratum]] = {}

    def seen(self, stretch: Stretch, look: int) -> Seen:
        """The windows of a stretch as they are known when window ``look`` begins."""
        kept = self._seen.get(stretch)
        if kept and kept[0] <= look:
            return kept[1]
        made, final = self._made(stretch, look)
        if final <= look:  # no label is still to come
            self._seen[stretch] = (look, made)
        return made

    def _made(self, stretch: Stretch, look: int) -> tuple[Seen, int]:
        """And the look from which on nothing changes any more."""
        found, final = [], 0
        for block in range(stretch.first // BLOCK, (stretch.end - 1) // BLOCK + 1):
            counts, begin = self._block(block, stretch.road), block * BLOCK
            first, end, most = (
                max(stretch.first - begin, 0),
                min(stretch.end - begin, BLOCK),
                len(counts.changing[0]) - 1,
            )
            local, delay = _ALL[first:end], np.minimum(look - begin - _ALL[first:end], most)
            still = (column[first:end] for column in (counts.fixed, counts.bins, counts.shares))
            sliced = counts.slices[local, delay] if len(counts.slices) else counts.slices
            found.append((counts.changing[local, delay], *still, sliced))
            final = max(final, begin + end - 1 + most)
        whole = found[0] if len(found) == 1 else [np.concatenate(parts) for parts in zip(*found, strict=True)]
        return Seen(range(stretch.first, stretch.end), *whole), final

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


class Glance(NamedTuple):
    """What a look sees: the windows of the stage, those whose labels are compared, and all together."""

    live: Seen
    judged: tuple[Seen, ...]
    tally: Tally

    @property
    def strata(self) -> Floats:
        """(windows, 21): ``changing`` of the judged windows."""
        return self.live.changing if len(self.judged) == 1 else np.concatenate([one.changing for one in self.judged])


def glance(watch: Watch, stage: Stretch, earlier: Sequence[Stretch], look: int) -> Glance:
    """
    What there is to see when window ``look`` begins.

    Args:
        stage: windows of the state's own stage.
        earlier: canary windows, which confirm takes into its cohort.
    """
    live = watch.seen(stage, look)
    made = Glance(live, (*(watch.seen(stretch, look) for stretch in earlier), live), _NOTHING)
    return made._replace(tally=tally_of(made.strata.sum(axis=0).tolist(), live.fixed.sum(axis=0).tolist()))


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
            if found := watch.stratum(window, row):
                yield found


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
