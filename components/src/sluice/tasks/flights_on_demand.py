"""
Derived columns of the flights task that are computed from a request and from read features, not stored.

Plain functions over columns of Python values: the feature repository calls them from its on-demand views, so training
and serving run the same lines. ``None`` and NaN both mean missing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from sluice.errors import BadInput

NEW_YORK = ZoneInfo("America/New_York")
TURNAROUND_MINUTES = 45.0
"""Usual time at a gate between two legs of a domestic jet."""
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY_MINUTES = 1440


@lru_cache(maxsize=16384)
def _local_hour_start(epoch_hour: int) -> tuple[int, int]:
    """(local hour 0-23, weekday 0-6 from Monday) of an hour since the epoch: New York's offsets are whole hours."""
    try:
        local = datetime.fromtimestamp(epoch_hour * 3600, UTC).astimezone(NEW_YORK)
    except (OSError, OverflowError, ValueError) as error:
        rule = f"is {epoch_hour * 60} minutes, beyond all calendars"
        raise BadInput("scheduled_departure", rule, "send minutes since 1970") from error
    return local.hour, local.weekday()


def schedule_columns(scheduled_departure: Sequence[int]) -> dict[str, list[float] | list[int] | list[str]]:
    """
    Parts of the local time of departure.

    Args:
        scheduled_departure: minutes since the epoch, UTC; n values.

    Returns:
        n values each: ``local_hour`` int 0-23, ``weekday`` str, ``day_sin`` and ``day_cos`` of the minute of the day.
    """
    hours: list[int] = []
    weekdays: list[str] = []
    sines: list[float] = []
    cosines: list[float] = []
    for minutes in scheduled_departure:
        hour, weekday = _local_hour_start(int(minutes) // 60)
        angle = 2 * math.pi * (hour * 60 + int(minutes) % 60) / _DAY_MINUTES
        hours.append(hour)
        weekdays.append(WEEKDAYS[weekday])
        sines.append(math.sin(angle))
        cosines.append(math.cos(angle))
    return {"local_hour": hours, "weekday": weekdays, "day_sin": sines, "day_cos": cosines}


def turnaround_columns(
    scheduled_departure: Sequence[int],
    previous_landed_at: Sequence[float | None],
    previous_elapsed: Sequence[float | None],
) -> dict[str, list[float | None]]:
    """
    How much time the plane has had since its previous leg from New York.

    That leg ended elsewhere, so the plane still had to fly back: ``return_slack`` takes off a flight of the same
    length and two turnarounds; below zero the plane can hardly be on time.

    Args:
        scheduled_departure: minutes since the epoch, UTC; n values.
        previous_landed_at: minutes since the epoch, UTC; n values.
        previous_elapsed: scheduled minutes of the previous leg; n values.

    Returns:
        n values each, minutes: ``minutes_since_landing`` and ``return_slack``; None where an input is missing.
    """
    since: list[float | None] = []
    slack: list[float | None] = []
    for now, landed, elapsed in zip(scheduled_departure, previous_landed_at, previous_elapsed, strict=True):
        gap = None if _missing(landed) else float(now) - float(landed or 0.0)
        since.append(gap)
        slack.append(None if gap is None or _missing(elapsed) else gap - float(elapsed or 0.0) - 2 * TURNAROUND_MINUTES)
    return {"minutes_since_landing": since, "return_slack": slack}


def _missing(value: float | None) -> bool:
    return value is None or math.isnan(value)
