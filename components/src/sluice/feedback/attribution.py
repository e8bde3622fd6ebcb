"""
Which rollout, route and window a stored prediction belongs to, where nobody marked it: a rule without I/O.

A plain HTTPRoute tells a server neither the rollout nor whether a request is a copy. Both follow from the digest that
answered and from what was released at that moment, so the release states of the environment say it afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import polars as pl

from sluice.documents.event_time import iso, moment_of
from sluice.documents.state import ReleaseState
from sluice.predictions.windows import ROW_SCHEMA

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def attribute_rows(
    rows: pl.DataFrame, history: Sequence[ReleaseState], window_hours: float, settle: timedelta = timedelta(0)
) -> pl.DataFrame:
    """
    The rows with ``rollout``, ``route`` and ``window``.

    Args:
        rows: ``WINDOW_SCHEMA``; a row that names its rollout was marked on its way and keeps its route.
        history: release states; each holds from its ``since`` to the next one's.
        window_hours: windows are counted from the start of the stage and step, so that none has two splits in it.
        settle: of a stage's start, in which the road may still lead where it led before; rows of it have no rollout.

    Returns:
        ``ROW_SCHEMA``. A digest that was not released at that moment keeps the route that its server says.
    """
    frame = rows.sort("event_time").join_asof(
        _frame(history), left_on="event_time", right_on="s_start", strategy="backward"
    )
    is_marked, is_settled = pl.col("rollout") != "", pl.col("event_time") >= pl.col("s_start") + settle
    route = (
        pl.when(is_marked)
        .then("route")
        .when(pl.col("digest") == pl.col("s_candidate"))
        .then("s_route")
        .when(pl.col("digest") == pl.col("s_stable"))
        .then(pl.lit("stable"))
        .otherwise("route")
    )
    rows = frame.with_columns(
        route=route,
        rollout=pl.when(is_marked).then("rollout").otherwise(pl.when(is_settled).then("s_rollout")).fill_null(""),
        window=_windows(frame, timedelta(hours=window_hours)),
    )
    return rows.select(pl.col(name).cast(dtype) for name, dtype in ROW_SCHEMA.items())


def _frame(history: Sequence[ReleaseState]) -> pl.DataFrame:
    """The states by their start; of two that begin together the later one."""
    rows = {moment_of(state.since): state for state in sorted(history, key=lambda one: one.sequence) if state.since}
    times = sorted(rows)
    return pl.DataFrame(
        {
            "s_start": times,
            "s_rollout": [rows[time].rollout for time in times],
            "s_route": [rows[time].joined_route for time in times],
            "s_stable": [rows[time].stable for time in times],
            "s_candidate": [rows[time].candidate for time in times],
        },
        schema={"s_start": pl.Datetime("us", "UTC")}
        | dict.fromkeys(("s_rollout", "s_route", "s_stable", "s_candidate"), pl.String),
    )


def _windows(rows: pl.DataFrame, length: timedelta) -> pl.Series:
    """Start of each row's window as ``iso`` writes it."""
    start = pl.col("s_start").fill_null(_EPOCH)
    microseconds = length // timedelta(microseconds=1)
    whole = (pl.col("event_time") - start).dt.total_microseconds() // microseconds * microseconds
    starts = rows.select(start + pl.duration(microseconds=whole)).to_series()
    texts = {moment: iso(moment) for moment in starts.unique()}
    return starts.replace_strict(texts, return_dtype=pl.String) if texts else starts.cast(pl.String)
