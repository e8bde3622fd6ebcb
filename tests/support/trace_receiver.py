"""A small OTLP receiver: what it is sent over HTTP it decodes with OpenTelemetry's own protobuf, and keeps."""

from __future__ import annotations

import contextlib
import gzip
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Received(NamedTuple):
    """One span."""

    name: str
    trace: str
    id: str
    parent: str
    status: int
    attributes: dict[str, str]
    resource: dict[str, str]


def _attributes(pairs: object) -> dict[str, str]:
    return {pair.key: pair.value.string_value for pair in pairs}  # type: ignore[attr-defined]


class Handler(BaseHTTPRequestHandler):
    """``POST /v1/traces``; each span goes to ``keep``."""

    keep: Callable[[Received], None]

    def do_POST(self) -> None:
        """Answer 200 when the spans are kept."""
        assert self.path == "/v1/traces"
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        for sent in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _attributes(sent.resource.attributes)
            for scope in sent.scope_spans:
                for one in scope.spans:
                    ids = (one.trace_id.hex(), one.span_id.hex(), one.parent_span_id.hex())
                    type(self).keep(Received(one.name, *ids, one.status.code, _attributes(one.attributes), resource))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


def _server(host: str, port: int, keep: Callable[[Received], None]) -> HTTPServer:
    return HTTPServer((host, port), type("Keeping", (Handler,), {"keep": staticmethod(keep)}))


@contextlib.contextmanager
def receiver() -> Iterator[tuple[str, list[Received]]]:
    """Its endpoint and the spans that came so far."""
    spans: list[Received] = []
    with _server("127.0.0.1", 0, spans.append) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", spans
        server.shutdown()


if __name__ == "__main__":  # in a pod: its log has a JSON line a span
    with _server("0.0.0.0", 4318, lambda span: print(json.dumps(span._asdict()), flush=True)) as listening:  # noqa: S104, T201
        listening.serve_forever()
