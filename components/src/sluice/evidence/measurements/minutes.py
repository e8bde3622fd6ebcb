"""Failures, refusals and latency by minute of event time: an outage is one event, however many requests it fails."""

from __future__ import annotations

import numpy as np
import polars as pl

from sluice.arrays import Floats
from sluice.documents.evidence import SIDES
from sluice.evidence.measurements.measurement import Measurement, Part, SideRows, StageRows
from sluice.evidence.minutes import TEN, minute_columns, minutes_of
from sluice.evidence.rows import failed, refused

_MINUTE_US = 60_000_000


def minute_sums(requests: SideRows) -> list[float]:
    """Summed columns of ``sluice.evidence.minutes``; of all that each side was asked, with what it refused."""
    sides = [_by_minute(requests[side]) for side in SIDES]
    minutes = np.unique(np.concatenate([places for places, _ in sides]))
    table = np.zeros((5, len(SIDES), minutes.size))
    for number, (places, values) in enumerate(sides):
        table[:, number, np.searchsorted(minutes, places)] = values
    ten = np.unique(minutes // TEN, return_inverse=True)[1]
    sums: list[float] = minute_columns(ten, *table).sum(axis=1).tolist()
    return sums


def _from_rows(rows: StageRows) -> Part:
    present = [side for side in SIDES if getattr(rows.state, side)]
    return {"minutes": minutes_of(rows.by_minute, present)}


def _by_minute(rows: pl.DataFrame) -> tuple[Floats, Floats]:
    """The minutes, (M,), and of each the arguments of ``minute_columns``, (5, M)."""
    minute = pl.col("event_time").dt.timestamp("us") // _MINUTE_US
    mine = pl.col("alone") | ~refused()
    sums = rows.group_by(minute=minute).agg(
        n=mine.sum(),
        errors=failed().sum(),
        ms=pl.col("latency_ms").filter(mine).sum(),
        asked=pl.len(),
        refused=refused().sum(),
    )
    table = sums.sort("minute").to_numpy().astype(np.float64)
    return table[:, 0], table[:, 1:].T


MEASUREMENT = Measurement(
    "minutes", "Failures by minute of event time; servers count them themselves.", _from_rows, lambda _: {}
)
