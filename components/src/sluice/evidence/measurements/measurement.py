"""What a measurement declares, what it is counted from, and the short way to declare a new one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from sluice.data.divergence import FeatureProfile
from sluice.documents.evidence import SIDES, ArmMoments, Cells, Evidence, Moments
from sluice.documents.state import ReleaseState
from sluice.evidence.measurements.points import DataPoint, PointIndex, sums
from sluice.evidence.moments import moments
from sluice.targets.kind import TargetKind
from sluice.tasks.task import Slice

Part = Mapping[str, Any]
"""Fields of ``Evidence`` with their values; of an arm, and of ``measurements``, some of its keys."""
SideRows = Mapping[str, pl.DataFrame]
"""Rows by ``SIDES``, as ``sluice.evidence.rows`` makes them ready; none of a side that there is not."""


@dataclass(frozen=True)
class StageRows:
    """The rows of one look, cut as measurements need them."""

    state: ReleaseState
    due: datetime
    """Requests up to this moment are old enough for their label."""
    block: timedelta
    """Length of a block of event time; the stage's first one begins with it."""
    recent: datetime | None
    """Requests from this moment on came since the last look; ``None`` where nobody asks."""
    live: pl.DataFrame
    """Of the stage, whoever answered."""
    served: SideRows
    """Of the stage, what each side answered, failures and what it refused alone among them."""
    refused: SideRows
    """Of the stage, what each side refused, alone or not."""
    cohort: SideRows
    """What losses are compared on: as ``served``, in confirm canary and confirm together."""
    by_minute: Sequence[float]
    """Summed columns of ``sluice.evidence.minutes``, of ``served``."""
    pairs: pl.DataFrame
    """
    In shadow, a row a request that both answered: the candidate's columns, stable's ``score_s, loss_s, latency_ms_s``
    and covariates, ``event_time``, ``label``, ``difference`` of the losses, and ``shift`` of the predictions.
    """
    profiles: Mapping[str, FeatureProfile]
    slices: tuple[Slice, ...]
    target: TargetKind
    thresholds: Mapping[str, float | None]
    """Score from which a digest decides positive, ``None`` where its kind has none."""
    cells: Cells | None


def _no_points(_: Evidence) -> Iterable[DataPoint]:
    return ()


@dataclass(frozen=True)
class Measurement:
    """
    Args:
        about: one sentence, for people who meet its series.
        from_rows: the part of the document that rows say.
        from_points: the same part read back; of no points, what stands for not known.
        to_points: of a document; names without the ``sluice_`` that all of ours begin with. Nothing, where servers
            count it themselves.
        series: beginnings of the names that ``from_points`` reads.
        histogram: whether its points are the one Prometheus histogram ``name``.
        simulated: the part that a simulated rollout has, from the rest of its document; ``None`` for what
            ``sluice.simulation`` counts itself, and for what it does not know.
    """

    name: str
    about: str
    from_rows: Callable[[StageRows], Part]
    from_points: Callable[[PointIndex], Part]
    to_points: Callable[[Evidence], Iterable[DataPoint]] = _no_points
    series: tuple[str, ...] = ()
    histogram: bool = False
    simulated: Callable[[Evidence], Part] | None = None


def arm_measurement(
    name: str,
    about: str,
    value: pl.Expr,
    *,
    cohort: bool = False,
    simulated: Callable[[Evidence], ArmMoments] | None = None,
) -> Measurement:
    """
    A number of its own: n, mean and variance of ``value`` over each arm's requests, in ``Evidence.measurements``.

    Args:
        name: its key there; its series are ``sluice_<name>_{count,sum,squares}{route}``.
        value: over the columns of ``sluice.evidence.rows``; requests for which it is null are left out.
        cohort: over the requests on which losses are compared, not over those of the stage.
    """

    def part(arms: Mapping[str, Moments | None]) -> Part:
        return {"measurements": {name: ArmMoments(**arms)}} if any(arms.values()) else {}

    def from_rows(rows: StageRows) -> Part:
        sides = rows.cohort if cohort else rows.served
        return part({side: moments(sides[side].select(value).to_series()) for side in SIDES})

    def to_points(evidence: Evidence) -> Iterator[DataPoint]:
        if arms := evidence.measurements.get(name):
            for side in SIDES:
                yield from sums(name, {"route": side}, arms.of(side))

    def from_points(points: PointIndex) -> Part:
        return part({side: points.moments(name, route=side) for side in SIDES})

    def twin(evidence: Evidence) -> Part:
        return {"measurements": {name: simulated(evidence)}} if simulated else {}

    return Measurement(name, about, from_rows, from_points, to_points, (name,), simulated=twin if simulated else None)
