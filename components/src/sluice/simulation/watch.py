"""What a look at one rollout sees: the windows of its stages, counted as they are known by then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sluice.arrays import Floats
from sluice.documents.evidence import Stratum
from sluice.simulation.counting import (
    STILL,
    BlockCounts,
    LabelTimes,
    Road,
    Side,
    Tally,
    block_counts,
    label_times,
    tally_of,
)
from sluice.simulation.traffic import BLOCK, SimulatedTraffic

_ALL = np.arange(BLOCK)
_NOTHING = Tally(Side(), Side())


class Stretch(NamedTuple):
    """Windows of one stage."""

    first: int
    end: int
    road: Road


class Windows(NamedTuple):
    """As one look knows them: arrays with one entry a window, columns as in ``BlockCounts``."""

    numbers: range
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

    def __init__(self, traffic: SimulatedTraffic, maturity: float) -> None:
        """Nothing is seen yet; ``maturity``: hours after which a label is due."""
        self.traffic, self.maturity = traffic, maturity
        self._label_times: dict[int, LabelTimes] = {}
        self._counts: dict[tuple[int, Road], BlockCounts] = {}
        self._final: dict[Stretch, tuple[int, Windows]] = {}
        self.strata: dict[int, tuple[list[float], Stratum]] = {}

    def windows(self, stretch: Stretch, look: int) -> Windows:
        """The windows of a stretch as they are known when window ``look`` begins."""
        latest = self._final.get(stretch)
        if latest and latest[0] <= look:
            return latest[1]
        windows, final = self._windows(stretch, look)
        if final <= look:  # no label is still to come
            self._final[stretch] = (look, windows)
        return windows

    def _windows(self, stretch: Stretch, look: int) -> tuple[Windows, int]:
        """And the look from which on nothing changes any more."""
        parts, final = [], 0
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
            parts.append((counts.changing[local, delay], *still, sliced))
            final = max(final, begin + end - 1 + most)
        whole = parts[0] if len(parts) == 1 else [np.concatenate(columns) for columns in zip(*parts, strict=True)]
        return Windows(range(stretch.first, stretch.end), *whole), final

    def tally(self, stretch: Stretch, look: int) -> Tally:
        """All windows of a stretch together."""
        windows = self.windows(stretch, look)
        return tally_of(windows.changing.sum(axis=0).tolist(), windows.fixed.sum(axis=0).tolist())

    def exposed(self, stretch: Stretch) -> int:
        """Requests that the candidate answered."""
        return int(self.windows(stretch, stretch.end).fixed[:, 0].sum())

    def _block(self, block: int, road: Road) -> BlockCounts:
        key = (block, road)
        if key not in self._counts:
            if block not in self._label_times:
                self._label_times[block] = label_times(self.traffic, block, self.maturity)
            self._counts[key] = block_counts(self.traffic, block, road, self._label_times[block])
        return self._counts[key]


class Glance(NamedTuple):
    """What a look knows: the windows of the stage, those whose labels are compared, and all together."""

    live: Windows
    cohort: tuple[Windows, ...]
    tally: Tally

    @property
    def minutes(self) -> list[float]:
        """Summed columns of ``sluice.evidence.minutes``, of the stage."""
        sums: list[float] = self.live.fixed[:, STILL:].sum(axis=0).tolist()
        return sums

    @property
    def strata(self) -> Floats:
        """(windows, 28): ``changing`` of the cohort."""
        return self.live.changing if len(self.cohort) == 1 else np.concatenate([one.changing for one in self.cohort])


def glance(watch: Watch, stage: Stretch, earlier: Sequence[Stretch], look: int) -> Glance:
    """
    What there is to see when window ``look`` begins.

    Args:
        stage: windows of the state's own stage.
        earlier: canary windows, which confirm takes into its cohort.
    """
    live = watch.windows(stage, look)
    first = Glance(live, (*(watch.windows(stretch, look) for stretch in earlier), live), _NOTHING)
    return first._replace(tally=tally_of(first.strata.sum(axis=0).tolist(), live.fixed.sum(axis=0).tolist()))


def share_of(traffic: SimulatedTraffic, planned: int) -> float:
    """Share of the requests that truly reaches the candidate; a broken road loses some even of all."""
    return planned / 100 * traffic.world.road
