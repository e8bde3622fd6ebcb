"""An HTTP server that answers as a Prometheus would, until a test tells it how to fail."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

from sluice_serving.metrics import ServingMetrics
from tests.support.release import A, B

Row = tuple[dict[str, str], float]
Fault = Callable[[str, dict[str, Any]], Any]
"""Gets the kind of a query and the right answer; returns what is said instead: a document, or bytes with a status."""
HOUR_AGO = time.time() - 3600
_SIDES = ((A, "stable", 15), (B, "candidate", 5))


def rows_of(metrics: ServingMetrics, instance: str) -> list[Row]:
    """What a scrape of one server leaves."""
    where = {"instance": instance, "job": "sluice"}
    return [
        ({"__name__": sample.name, **where, **sample.labels}, sample.value)
        for family in metrics.collect()
        for sample in family.samples
    ]


class ScriptedPrometheus:
    """
    Stable (A) answered 900 requests and the candidate (B) 300 of a canary that began an hour ago.

    Every request is kept in ``asked`` as (kind, authorization); the kinds are clock, counts, before, seen, changes,
    raw, minutes and joined.
    """

    def __init__(self, last: datetime | None = None) -> None:
        self.fault: Fault | None = None
        self.asked: list[tuple[str, str | None]] = []
        servers = [(ServingMetrics("toy", A), "stable", 900), (ServingMetrics("toy", B), "candidate", 300)]
        for metrics, _, _ in servers:
            metrics._start = HOUR_AGO - 600
        self.later: list[Row] | None = None
        """Of ten minutes after the stage's begin to a quarter of an hour ago, where that differs from its begin."""
        self.before = [row for metrics, route, _ in servers for row in rows_of(metrics, route)]
        for metrics, route, n in servers:
            metrics.count_answers(route, n, 0, 2.0, last or datetime.now(UTC))
        self.counts = [row for metrics, route, _ in servers for row in rows_of(metrics, route)]
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, query: str, at: float) -> tuple[str, dict[str, Any]]:
        """Kind of the query, and the right answer."""
        starts = [({**labels, "__name__": ""}, value) for labels, value in self.counts if "start_time" in str(labels)]
        if query == "time()":
            return "clock", _success("scalar", [time.time(), repr(time.time())])
        if "sluice_(?:joined" in query:
            return "joined", _vector([], at)
        if query.startswith("last_over_time(") and at > time.time() - 900:  # a busy suite comes here late
            return "counts", _vector(self.counts, at)
        if query.startswith("sum by"):
            return "minutes", _success("matrix", [_by_minute(*side, at) for side in _SIDES])
        for function, kind, value in (("timestamp(", "seen", at - 1), ("changes(", "changes", 0)):
            if query.startswith(function):
                return kind, _vector([(labels, value) for labels, _ in starts], at)
        begun = self.later if self.later and at > HOUR_AGO + 600 else self.before
        return "before", _vector(begun, at)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
                kind, document = outer.answer(body["query"][0], float(body.get("time", ["0"])[0]))
                outer.asked.append((kind, self.headers.get("authorization")))
                said = outer.fault(kind, document) if outer.fault else document
                status, data = said if isinstance(said, tuple) else (200, json.dumps(said).encode())
                self.send_response(status)
                self.send_header("content-length", str(len(data) + (1000 if data.endswith(b"cut") else 0)))
                self.send_header("location", "/elsewhere")
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

            def handle(self) -> None:
                with contextlib.suppress(OSError):  # clients give up
                    super().handle()

        return Handler


def _success(kind: str, result: Any) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": kind, "result": result}}


def _by_minute(digest: str, route: str, n: int, at: float) -> dict[str, Any]:
    """Good answers of the hour's last 55 minutes."""
    last = at // 60 * 60
    labels = {"task": "toy", "digest": digest, "route": route, "status": "2xx"}
    return {"metric": labels, "values": [[last - 60 * minute, str(n)] for minute in reversed(range(55))]}


def _vector(rows: Iterable[tuple[Mapping[str, str], float]], at: float) -> dict[str, Any]:
    return _success(
        "vector",
        [
            {
                "metric": {key: text for key, text in labels.items() if text or key == "cause"},
                "value": [at, repr(value)],
            }
            for labels, value in rows
        ],
    )
