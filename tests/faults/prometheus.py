"""
A Prometheus on loopback that answers ``/api/v1/query`` and ``/api/v1/query_range``, and fails by script.

For sources of evidence that speak its HTTP API: they take ``url`` as their base URL.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self, get_args
from urllib.parse import parse_qs, urlsplit

Name = Literal[
    "down", "5xx", "slow", "NaN", "+Inf", "empty", "two series", "text", "stale", "skew", "other revision", "stops"
]
FAULTS: tuple[Name, ...] = get_args(Name)


class Series(NamedTuple):
    """One series of an answer, with one value."""

    labels: Mapping[str, str]
    value: float


Answer = Callable[[str, float], Sequence[Series]]
"""From a query and a time (Unix seconds) to what a healthy server says."""


class FakePrometheus:
    """
    Context manager: a server on a free port of loopback.

    Args:
        answer: of a healthy server.
        slow_s: seconds that a slow answer takes.
        revision: label that another revision's data carries another value of.
    """

    def __init__(self, answer: Answer, *, slow_s: float = 1.0, revision: str = "digest") -> None:
        self.answer, self.slow_s, self.revision = answer, slow_s, revision
        self.fault: Name | None = None
        self.minutes = 5
        """Of the skew; negative is behind."""
        self.fired = 0
        """Answers that were spoilt."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def document(self, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        """The JSON of an answer, spoilt where the fault is one of the data."""
        ranged = path.endswith("query_range")
        moment = float(query.get("end" if ranged else "time") or time.time())
        found = list(self.answer(query.get("query", ""), moment))
        at = moment + {"stale": -600, "skew": 60 * self.minutes}.get(self.fault or "", 0)
        if self.fault in ("empty", "stops"):
            found = []
        if self.fault == "two series":
            found = [one for series in found for one in (series, self._other(series))]
        if self.fault == "other revision":
            found = [self._other(series) for series in found]
        values = {"NaN": "NaN", "+Inf": "+Inf", "text": "fast"}
        rows = [(series.labels, [at, values.get(self.fault or "", f"{series.value!r}")]) for series in found]
        kind, key = ("matrix", "values") if ranged else ("vector", "value")
        result = [{"metric": dict(labels), key: [sample] if ranged else sample} for labels, sample in rows]
        return {"status": "success", "data": {"resultType": kind, "result": result}}

    def _other(self, series: Series) -> Series:
        return Series({**series.labels, self.revision: "sha256:" + "0" * 64}, series.value)


def _handler(owner: FakePrometheus) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply(urlsplit(self.path).query)

        def do_POST(self) -> None:
            self._reply(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())

        def _reply(self, text: str) -> None:
            path = urlsplit(self.path).path
            query = {key: values[-1] for key, values in parse_qs(text).items()}
            owner.fired += owner.fault is not None
            if owner.fault == "down":
                self.close_connection = True
                self.connection.close()
                return
            if owner.fault == "slow":
                time.sleep(owner.slow_s)
            status = 503 if owner.fault == "5xx" else 200 if path.startswith("/api/v1/query") else 404
            body = json.dumps(owner.document(path, query)) if status == 200 else "<h1>Service Unavailable</h1>"
            with contextlib.suppress(OSError):  # the client did not wait
                self._send(status, body.encode())

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json" if status == 200 else "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class' name
            """Say nothing."""

    return Handler
