"""
Minutes of delay: at its scheduled departure from New York, how late will a flight arrive?

The rows and the features are those of the task ``flights``; what is asked of them is another question, of another kind.

The loss is pinball, of the quantiles 0.1, 0.5 and 0.9. Half of the flights arrive early, one in ten 52 minutes late or
more, the latest 21 hours: a squared error would learn a few awful days, and the mean that it aims at is 7 minutes late,
where the usual flight is 5 early. The quantiles say what one can expect and what one has to count on.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime
from pathlib import Path

import polars as pl

from sluice.targets.regression import Regression
from sluice.tasks import flights
from sluice.tasks.flights import departures


def read_examples(start: datetime, end: datetime) -> pl.DataFrame:
    """
    Flights as the task ``flights`` has them, labelled by their delay at the destination.

    Returns:
        The columns of ``sluice.tasks.flights.read_examples``; label in minutes (Float64), below 0 for those that land
        early, null where the flight was cancelled or diverted: it never arrived where it was going.
    """
    return departures(start, end, "arr_delay").with_columns(pl.col("label").cast(pl.Float64))


TASK = dataclasses.replace(
    flights.TASK,
    name="delay",
    title="Minutes of delay of flights from New York",
    question="At its scheduled departure, how many minutes late will this flight arrive?",
    read_examples=read_examples,
    schema_file=Path(__file__).with_name("schema.json"),
    target=Regression(loss="pinball", quantiles=(0.1, 0.5, 0.9), unit="minutes", tolerance=10),
)
