"""The prediction log on disk: one parquet file a window of event time, under ``predictions/<environment>/``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from sluice.documents.event_time import STAMP, iso
from sluice.errors import BadArtifact, one_line
from sluice.predictions.log import WINDOW_SCHEMA, with_later

ROW_SCHEMA = {**WINDOW_SCHEMA, "window": pl.String}
"""Columns of the rows that ``read_window`` gives."""


@dataclass(frozen=True, order=True)
class Window:
    """One file: the predictions with event times in ``[start, end)``."""

    start: datetime
    end: datetime
    path: Path


def list_windows(directory: Path) -> tuple[Window, ...]:
    """
    All windows of an environment by time; a directory that is not there yet has none.

    Raises:
        BadArtifact: a file whose name is not a window.
    """
    return tuple(sorted(_window(path) for path in directory.glob("[!.]*.parquet")))


def _window(path: Path) -> Window:
    try:
        start, end = (datetime.strptime(part, STAMP).replace(tzinfo=UTC) for part in path.stem.split("_"))
    except ValueError as error:
        rule = "is not named <start>_<end>.parquet with times like 20130801T050000Z"
        raise BadArtifact(str(path), rule, "move it elsewhere") from error
    return Window(start, end, path)


def read_window(window: Window) -> pl.DataFrame:
    """
    The rows of a window, with ``window`` (its start, ISO 8601) added.

    Raises:
        BadArtifact: a truncated or unreadable file, one without the log's columns or with other values in them.
    """
    fix = "delete it: `sluice run` replays the window"
    try:
        frame = with_later(pl.read_parquet(window.path))
    # A damaged page can end in a panic of the reader, which is no PolarsError.
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise BadArtifact(str(window.path), f"cannot be read as parquet ({one_line(error, 200)})", fix) from error
    if absent := sorted(set(WINDOW_SCHEMA) - set(frame.columns)):
        raise BadArtifact(str(window.path), f"has no column {absent[0]!r}", fix)
    try:
        typed = frame.select(pl.col(name).cast(dtype) for name, dtype in WINDOW_SCHEMA.items())
    except pl.exceptions.PolarsError as error:
        raise BadArtifact(str(window.path), f"has values of another type ({one_line(error, 200)})", fix) from error
    if not typed["latency_ms"].is_finite().all():
        raise BadArtifact(str(window.path), "has a latency_ms that is NaN or infinite", fix)
    return typed.with_columns(window=pl.lit(iso(window.start)))
