"""
Every measurement, and what follows from the list: what rows say, what is exposed, what is read back.

A new one is a file beside this one and a line here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sluice.documents.evidence import Evidence
from sluice.evidence.measurements import blocks, features, losses, minutes, pairs, requests, slices
from sluice.evidence.measurements.measurement import Measurement, Part, StageRows
from sluice.evidence.measurements.points import DataPoint, PointIndex

MEASUREMENTS: dict[str, Measurement] = {
    measurement.name: measurement
    for measurement in (
        requests.REQUESTS,
        requests.REFUSALS,
        requests.LATENCY,
        minutes.MEASUREMENT,
        losses.LABELS,
        losses.DELAYS,
        losses.STRATA,
        pairs.MEASUREMENT,
        blocks.MEASUREMENT,
        features.SKEW,
        features.CELLS,
        slices.MEASUREMENT,
    )
}


def part_of_rows(rows: StageRows) -> Part:
    """All that the rows of a look say."""
    return merged(measurement.from_rows(rows) for measurement in MEASUREMENTS.values())


def points_of(evidence: Evidence) -> Iterator[tuple[Measurement, DataPoint]]:
    """All that a join with labels knows; what servers count themselves is left to them."""
    for measurement in MEASUREMENTS.values():
        for point in measurement.to_points(evidence):
            yield measurement, point


def part_of_points(points: PointIndex) -> Part:
    """
    What points say; of none, what stands for not known.

    Raises:
        ValueError: numbers that contradict each other, such as more hits than requests.
    """
    return merged(measurement.from_points(points) for measurement in MEASUREMENTS.values())


def series() -> tuple[str, ...]:
    """Beginnings of the names of all series that are read back, each once."""
    return tuple(dict.fromkeys(name for measurement in MEASUREMENTS.values() for name in measurement.series))


def part_of_simulation(evidence: Evidence) -> Part:
    """What a simulated document has besides."""
    twins = (measurement.simulated for measurement in MEASUREMENTS.values())
    return merged(twin(evidence) for twin in twins if twin)


def merged(parts: Iterable[Part]) -> dict[str, Any]:
    """All parts in one; of what is a mapping in two, the keys of both, and the later one's where both have them."""
    whole: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            before = whole.get(name)
            whole[name] = before | value if isinstance(before, dict) and isinstance(value, dict) else value
    return whole
