"""
The prediction log: one JSON line a prediction, appended by the servers; one parquet file a window, by the collector.

Line: request_id, event_time (ISO, Z), route, rollout, digest, score, status, latency_ms, features (name to value or
null), missing (names), stale (names), keys (entity keys and request inputs), as_of (feature view to the time of the row
that was read online). A prediction of one number is the score; one of several (a probability a class, quantiles) is in
prediction, in the order of its target's columns, and the score is null then. Other lines have no prediction. Images
and texts are digests among features and keys; ``sluice.predictions.contents`` says where their bytes are.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

import orjson
import polars as pl

from sluice.content import written_whole
from sluice.documents.event_time import STAMP, iso
from sluice.predictions.contents import ContentBudget

WINDOW_SCHEMA: Mapping[str, Any] = {
    "request_id": pl.String,
    "event_time": pl.Datetime("us", "UTC"),
    "route": pl.String,
    "digest": pl.String,
    "score": pl.Float64,
    "status": pl.Int16,
    "latency_ms": pl.Float64,
    "features": pl.String,
    "missing": pl.Int16,
    "stale": pl.Int16,
    "keys": pl.String,
    "rollout": pl.String,
    "as_of": pl.String,
    "prediction": pl.List(pl.Float64),
    "contents": pl.String,
}
"""
Columns of a window's parquet; ``features``, ``keys`` and ``as_of`` are JSON with sorted keys, ``missing``, ``stale``
counts. ``as_of`` is null where nobody wrote it down, ``prediction`` where it is the score or there is none,
``contents`` where there are none.
"""

_LATER = ("as_of", "prediction", "contents")
"""Columns that logs of before lack."""
_MAX_BUFFERED = 1000


@dataclass(frozen=True)
class PredictionRecord:
    """
    One prediction, or one request that failed or was refused: ``status`` says how.

    A prediction of one number is in ``score``, one of several in ``prediction``; the other is ``None``. ``contents``
    are the bytes, by digest, of what ``keys`` and ``features`` name by one.
    """

    request_id: str
    event_time: datetime
    route: str
    rollout: str
    digest: str
    score: float | None
    status: int
    latency_ms: float
    features: Mapping[str, Any]
    missing: Sequence[str]
    stale: Sequence[str]
    keys: Mapping[str, Any]
    as_of: Mapping[str, datetime] = field(default_factory=dict)
    prediction: Sequence[float] | None = None
    contents: Mapping[str, bytes] = field(default_factory=dict)

    def line(self, contents: Mapping[str, str] = {}) -> bytes:
        """The record as one line of JSON, newline included, with those of its contents, as base64."""
        document = {**self.__dict__, "event_time": iso(self.event_time), "contents": contents}
        if self.prediction is None:
            del document["prediction"]
        if not contents:
            del document["contents"]
        return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)


class PredictionLog(Protocol):
    """Where a server's predictions go: a file here, or a spool on its way to a collector."""

    dropped: int
    """Predictions that it had to give up."""

    def keeps(self, request_id: str, /) -> bool:
        """Whether a prediction is in the sample; asked first, since to make a record costs something."""

    def write(self, records: Iterable[PredictionRecord]) -> None:
        """Take the records; never blocks for long and never raises."""

    def close(self) -> None:
        """The last call."""


def is_sampled(request_id: str, percent: float) -> bool:
    """
    Whether a request is in the sample of so many percent: the same on every server, so that all sides of a rollout
    keep the same requests. The rows of one request (``id#0``, ``id#1``, …) stay together.
    """
    base, mark, index = request_id.rpartition("#")
    key = base if mark and index.isdecimal() else request_id
    position = int.from_bytes(blake2b(f"log\0{key}".encode(), digest_size=8).digest())
    return position < percent / 100 * 2**64


class LogWriter:
    """
    Appends lines to one file so that whatever was answered survives SIGKILL: each call ends in the kernel.

    While the disk is full, lines wait in a buffer of at most 1000; beyond that the oldest are dropped and counted,
    because a log must not stop a server from answering.

    Args:
        contents: of images and texts.
    """

    def __init__(self, path: Path, contents: ContentBudget | None = None) -> None:
        self._contents = contents or ContentBudget()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._waiting: deque[bytes] = deque()
        self.dropped = 0
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            # A killed predecessor left half a line: end it, so that it spoils nothing but itself.
            self._waiting.append(b"\n")

    def keeps(self, _request_id: str, /) -> bool:
        """Every prediction."""
        return True

    def write(self, records: Iterable[PredictionRecord]) -> None:
        """Append the records; never raises for a full disk."""
        self._waiting.extend(record.line(self._contents.fresh(record.contents)) for record in records)
        while len(self._waiting) > _MAX_BUFFERED:
            self._waiting.popleft()
            self.dropped += 1
            self._contents.forget()
        data = b"".join(self._waiting)
        try:
            size = os.write(self._file, data)
        except OSError:
            return
        self._waiting.clear()
        if size < len(data):
            self._waiting.append(data[size:])

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):
            os.close(self._file)


def log_sizes(directory: Path) -> dict[Path, int]:
    """Size in bytes of every log file: where a reader starts that wants only what comes later."""
    return {path: path.stat().st_size for path in sorted(directory.glob("*.jsonl"))}


def read_lines(directory: Path, since: Mapping[Path, int]) -> list[dict[str, Any]]:
    """
    The log lines written after ``since`` (a file that is not in it is read from its start).

    Half a line, left by a killed server, is skipped.
    """
    documents: list[dict[str, Any]] = []
    for path in sorted(directory.glob("*.jsonl")):
        with path.open("rb") as stream:
            stream.seek(since.get(path, 0))
            for line in stream:
                with contextlib.suppress(orjson.JSONDecodeError):
                    document = orjson.loads(line)
                    if isinstance(document, dict) and "request_id" in document:
                        documents.append(document)
    return documents


def window_frame(lines: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """
    Log lines as a frame with ``WINDOW_SCHEMA``, sorted by (event_time, request_id, route).

    A prediction that was logged twice (the request was sent again) counts once: the first answer stays, but an answer
    stays before a failure, and that before a refusal.
    """
    columns: dict[str, list[Any]] = {name: [] for name in WINDOW_SCHEMA}
    for line in lines:
        for name, values in columns.items():
            values.append(_cell(name, line.get(name) if name in _LATER else line[name]))
    return first_answers(pl.DataFrame(columns, schema=dict(WINDOW_SCHEMA)))


def with_later(frame: pl.DataFrame) -> pl.DataFrame:
    """A frame of before with nulls in the columns that it lacks because nobody wrote them down then."""
    absent = [name for name in _LATER if name not in frame.columns]
    return frame.with_columns(pl.lit(None, WINDOW_SCHEMA[name]).alias(name) for name in absent)


def first_answers(frame: pl.DataFrame) -> pl.DataFrame:
    """Each prediction once, as of ``window_frame``; in the same order."""
    rank = pl.when(pl.col("status") < 400).then(0).when(pl.col("status") >= 500).then(1).otherwise(2)
    return (
        frame.sort(rank, "status", maintain_order=True)
        .unique(["request_id", "route", "digest"], keep="first", maintain_order=True)
        .sort("event_time", "request_id", "route", "digest")
    )


def _cell(name: str, value: Any) -> Any:
    if name == "event_time":
        return datetime.fromisoformat(value)
    if name in {"missing", "stale"}:
        return len(value)
    if name in {"features", "keys", "as_of", "contents"} and value is not None:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    return value


def window_path(directory: Path, start: datetime, end: datetime) -> Path:
    """``<directory>/<start>_<end>.parquet`` with compact ISO times."""
    name = "_".join(moment.astimezone(UTC).strftime(STAMP) for moment in (start, end))
    return directory / f"{name}.parquet"


def write_window(path: Path, frame: pl.DataFrame) -> None:
    """Write a window, whole or not at all."""
    with written_whole(path) as beside:
        frame.write_parquet(beside, statistics=False)
