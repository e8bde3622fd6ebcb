"""
The prediction log on its way to a collector: spooled on disk, sent in batches, deleted when they are stored.

    <spool>/<time>-<pid>-<number>.jsonl      a segment; the newest is being written

A request is answered once its line is in the spool, whatever the collector does. A sealed segment is one batch, named
by its time and the digest of its bytes: sent twice, it is stored once. What is left when a server is killed is sent by
the next process on the same disk. The spool is bounded; beyond its bound new predictions are dropped and counted.

    sluice_prediction_log_dropped_total{task,digest}   predictions that no store will have
    sluice_prediction_log_sent_total{task,digest}      those that a collector has stored
    sluice_prediction_log_spooled_bytes{task,digest}   waiting on the disk
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import urllib3
from prometheus_client.core import REGISTRY, CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sluice.documents.event_time import STAMP
from sluice.errors import BadInput
from sluice.feedback.batch import MAX_BATCH_BYTES, Batch
from sluice.predictions.contents import HOUR_BYTES, ContentBudget
from sluice.predictions.log import LogWriter, PredictionLog, PredictionRecord, is_sampled

SEGMENT_BYTES = 1 << 20
_TIMEOUT_S = 10.0
_LONGEST_PAUSE_S = 10.0
_LAST_CHANCE_S = 4.0
"""For what is left when a server ends; less than kserve's grace period."""
_HOPELESS = frozenset({400, 413, 415, 422})
"""Answers after which the same bytes need not be sent again."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the prediction log goes."""
    parser.add_argument("--log", type=Path, help="prediction log to append to")
    parser.add_argument("--collector", default="", help="URL of a collector to send the prediction log to")
    parser.add_argument("--spool", type=Path, help="directory for what the collector does not have yet")
    parser.add_argument(
        "--spool_bytes", type=int, default=32 << 20, help="its bound; beyond it predictions are dropped"
    )
    parser.add_argument("--ship_seconds", type=float, default=30, help="a batch is sent so often, or when it is 1 MiB")
    parser.add_argument("--log_percent", type=float, default=100, help="requests to send, sampled by their id")
    parser.add_argument(
        "--log_content_bytes",
        type=int,
        default=HOUR_BYTES,
        help="images and texts to log in an hour; beyond it their digests alone",
    )


def open_log(options: argparse.Namespace, task: str, digest: str) -> PredictionLog | None:
    """
    The log of a command line.

    Raises:
        BadInput: options that contradict each other, or a spool that cannot be written.
    """
    contents = ContentBudget(options.log_content_bytes)
    if not options.collector:
        return LogWriter(options.log, contents) if options.log is not None else None
    if options.spool is None or options.log is not None:
        raise BadInput("--collector", "needs --spool and no --log", "name a directory for what is on its way")
    if urlsplit(options.collector).scheme != "http" or not urlsplit(options.collector).netloc:
        raise BadInput("--collector", f"is {options.collector!r}, not http://host:port", "name a collector")
    if not 0 <= options.log_percent <= 100:
        raise BadInput("--log_percent", f"is {options.log_percent:g}", "choose 0 to 100")
    try:
        every_s = max(options.ship_seconds, 0.1)
        spool = Spool(options.spool, options.spool_bytes, options.log_percent, every_s, contents)
    except OSError as error:
        raise BadInput(f"--spool {options.spool}", f"cannot be written ({error.strerror})", "mount a disk") from error
    REGISTRY.register(_SpoolMetrics(spool, [task, digest]))
    spool.start(options.collector)
    return spool


class Spool:
    """
    Segments on disk and, once ``start`` was called, the thread that sends them.

    Args:
        directory: of this server alone; what an earlier process left there is sent first.
        max_bytes: bound of all segments together.
        percent: of the requests that it keeps, sampled by request id.
        every_s: how often what was written is sent; each time makes an object in the store.
        contents: of images and texts; a spool that is half full takes their digests alone.
    """

    def __init__(
        self,
        directory: Path,
        max_bytes: int,
        percent: float,
        every_s: float,
        contents: ContentBudget | None = None,
    ) -> None:
        self._contents = contents or ContentBudget()
        directory.mkdir(parents=True, exist_ok=True)
        self._directory, self._max_bytes, self._percent, self._every_s = directory, max_bytes, percent, every_s
        self.dropped = self.sent = 0
        self._sealed = sorted(directory.glob("*.jsonl"))
        self.waiting_bytes = sum(path.stat().st_size for path in self._sealed)
        self._lock = threading.Lock()
        self._number = 0
        self._path, self._file, self._size = self._open()
        self._begun = time.monotonic()
        self._wake, self._ending = threading.Event(), False
        self._thread: threading.Thread | None = None

    def _open(self) -> tuple[Path, int, int]:
        stamp = datetime.now(UTC).strftime(STAMP)
        path = self._directory / f"{stamp}-{time.time_ns():020d}-{self._number:06d}.jsonl"
        self._number += 1
        return path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644), 0

    def keeps(self, request_id: str, /) -> bool:
        """Whether the request is in the sample."""
        return is_sampled(request_id, self._percent)

    def write(self, records: Iterable[PredictionRecord]) -> None:
        """Append the records; a call returns when the kernel has them, whatever the collector does."""
        lines = [self._line(record) for record in records]
        data = b"".join(lines)
        if not lines:
            return
        with self._lock:
            fits = len(data) <= MAX_BATCH_BYTES and self.waiting_bytes + len(data) <= self._max_bytes
            if not fits or not self._append(data):
                self.dropped += len(lines)
                self._contents.forget()

    def _line(self, record: PredictionRecord) -> bytes:
        room = self.waiting_bytes < self._max_bytes // 2
        return record.line(self._contents.fresh(record.contents) if room else {})

    def _append(self, data: bytes) -> bool:
        """Whether the lines are in a segment, whole; a full disk takes none of them."""
        try:
            if self._size and self._size + len(data) > SEGMENT_BYTES:
                self._seal()
                self._wake.set()
            if os.write(self._file, data) != len(data):
                os.ftruncate(self._file, self._size)
                return False
        except OSError:
            return False
        self._size += len(data)
        self.waiting_bytes += len(data)
        return True

    def _seal(self) -> None:
        opened = self._open()
        os.close(self._file)
        self._sealed.append(self._path)
        self._path, self._file, self._size = opened
        self._begun = time.monotonic()

    def start(self, collector: str) -> None:
        """Begin to send."""
        self._thread = threading.Thread(target=self._send_all, args=[_Sender(collector)], daemon=True, name="shipping")
        self._thread.start()

    def close(self) -> None:
        """Send what is left, for a few seconds; the rest waits on the disk."""
        self._ending = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_LAST_CHANCE_S + _TIMEOUT_S)
        os.close(self._file)

    def _send_all(self, sender: _Sender) -> None:
        pause, failures, deadline = self._every_s, 0, float("inf")
        while time.monotonic() < deadline:
            self._wake.wait(pause)
            self._wake.clear()
            if self._ending:
                deadline = min(deadline, time.monotonic() + _LAST_CHANCE_S)
            delivered = self._send_waiting(sender)
            if self._ending and delivered:
                return
            failures = 0 if delivered else failures + 1
            pause = self._every_s if delivered else min(2.0**failures, _LONGEST_PAUSE_S)
            pause = 0.2 if self._ending else pause

    def _send_waiting(self, sender: _Sender) -> bool:
        """Seal what is due, send what is sealed, oldest first; whether the collector took all of it."""
        with self._lock:
            due = self._ending or time.monotonic() >= self._begun + self._every_s
            if due and self._size and not self._sealed:
                with contextlib.suppress(OSError):
                    self._seal()
        while self._sealed:
            if not self._send(self._sealed[0], sender):
                return False
        return not (self._ending and self._size)

    def _send(self, path: Path, sender: _Sender) -> bool:
        """Whether a segment is done with: stored, or refused for good."""
        whole = path.read_bytes()
        # Half a line is left by a killed server, whose client got no answer.
        body = whole[: whole.rfind(b"\n") + 1]
        status = sender.put(path.name, body) if body else 200
        if status != 200 and status not in _HOPELESS:
            return False
        n = body.count(b"\n")
        path.unlink()
        with self._lock:
            self._sealed.remove(path)
            self.waiting_bytes -= len(whole)
            if status == 200:
                self.sent += n
            else:
                self.dropped += n
        return True


class _Sender:
    """
    A collector's client, which connects anew after each failure. By urllib3, which KServe has imported already: httpx
    would take twice its CPU for a batch.
    """

    def __init__(self, url: str) -> None:
        self._pool = urllib3.connection_from_url(url, timeout=_TIMEOUT_S, retries=False)

    def put(self, segment: str, body: bytes) -> int:
        """The collector's status; 0 without an answer. A refusal is said once, in the server's log."""
        start = datetime.strptime(segment.partition("-")[0], STAMP).replace(tzinfo=UTC)
        path, headers = f"/v1/predictions/{Batch.of(start, body).name}", {"content-type": "application/x-ndjson"}
        try:
            answer = self._pool.request("PUT", path, body=body, headers=headers, preload_content=False)
            reason = answer.read(2000).decode("utf-8", "replace")
            answer.release_conn()
        except (OSError, urllib3.exceptions.HTTPError):
            return 0
        if answer.status in _HOPELESS:
            sys.stderr.write(f"collector refuses a batch ({answer.status}): {reason}\n")
        return answer.status


class _SpoolMetrics(Collector):
    """What a spool has done, for a scrape."""

    def __init__(self, spool: Spool, identity: list[str]) -> None:
        self._spool, self._identity = spool, identity

    def collect(self) -> Iterator[Metric]:
        """Always all three series."""
        for kind, name, about, number in (
            (CounterMetricFamily, "dropped", "Predictions that no store will have.", self._spool.dropped),
            (CounterMetricFamily, "sent", "Predictions that a collector has stored.", self._spool.sent),
            (GaugeMetricFamily, "spooled_bytes", "Waiting on the disk.", self._spool.waiting_bytes),
        ):
            family = kind(f"sluice_prediction_log_{name}", about, labels=["task", "digest"])
            family.add_metric(self._identity, number)
            yield family
