"""How long answers took; in a cluster the servers count it themselves, in the same bins."""

from __future__ import annotations

import polars as pl

from sluice.documents.evidence import Timings
from sluice.evidence.measurements.measurement import Measurement, Part, StageRows
from sluice.evidence.moments import histogram, moments


def _from_rows(rows: StageRows) -> Part:
    """Moments over all answers; bins over those that a server timed itself, as its own metrics are."""
    candidate, stable = rows.served["candidate"], rows.served["stable"]
    timed = [side.filter(pl.col("digest").is_not_null())["latency_ms"] for side in (candidate, stable)]
    timings = Timings(
        candidate=moments(candidate["latency_ms"]),
        stable=moments(stable["latency_ms"]),
        difference=moments(rows.pairs["latency_ms"] - rows.pairs["latency_ms_s"]),
        candidate_bins=histogram(timed[0]),
        stable_bins=histogram(timed[1]),
    )
    return {"timings": timings}


MEASUREMENT = Measurement("latency", "Milliseconds of each answer.", _from_rows, lambda _: {"timings": Timings()})
