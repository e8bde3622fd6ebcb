"""What a look at one rollout sees: the windows of its stages, counted as they are known by then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sluice.arrays import Floats
from sluice.documents.evidence import Stratum
from sluice.simulation.counting import Counted, Road, Side, Tally, When, counted, tally_of, when
from sluice.simulation.traffic import BLOCK, Traffic

_ALL = np.arange(BLOCK)
_NOTHING = Tally(Side(), Side())


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
    """
    Looks at one rollout; a block is counted once a road.

    ``strata``: the last stratum of each window and the row that it was made of.
    """

    def __init__(self, traffic: Traffic, maturity: float) -> None:
        """Nothing is seen yet; ``maturity``: hours after which a label is due."""
        self.traffic, self.maturity = traffic, maturity
        self._when: dict[int, When] = {}
        self._counted: dict[tuple[int, Road], Counted] = {}
        self._seen: dict[Stretch, tuple[int, Seen]] = {}
        self.strata: dict[int, tuple[list[float], Stratum]] = {}

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

    def _block(self, block: int, road: Road) -> Counted:
        key = (block, road)
        if key not in self._counted:
            if block not in self._when:
                self._when[block] = when(self.traffic, block, self.maturity)
            self._counted[key] = counted(self.traffic, block, road, self._when[block])
        return self._counted[key]


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


def share_of(traffic: Traffic, planned: int) -> float:
    """Share of the requests that truly reaches the candidate; a broken road loses some even of all."""
    return planned / 100 * traffic.world.road
