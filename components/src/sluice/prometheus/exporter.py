"""Numbers for a Prometheus: its text format, and a server that answers each scrape anew."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import NamedTuple

from pydantic import ValidationError

from sluice.errors import SluiceError


class Sample(NamedTuple):
    """One number with its name and labels."""

    name: str
    labels: Mapping[str, str]
    value: float


def in_text(samples: Iterable[Sample]) -> bytes:
    """Prometheus' text format: counters where the name ends with ``_total``, else gauges."""
    lines, last = [], ""
    for name, labels, value in sorted(samples, key=lambda sample: sample.name):
        if name != last:
            lines.append(f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}")
            last = name
        pairs = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        lines.append(f"{name}{{{pairs}}} {float(value)!r}")
    return ("\n".join(lines) + "\n").encode()


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


class _Handler(BaseHTTPRequestHandler):
    """``GET /metrics``; what cannot be read fails the scrape, and Prometheus sees series that end."""

    render: Callable[[], bytes]

    def do_GET(self) -> None:
        """Render what there is now; ``/healthz`` asks for nothing."""
        status, body = 404, b"see /metrics\n"
        if self.path == "/healthz":
            status, body = 200, b"up\n"
        elif self.path == "/metrics":
            try:
                status, body = 200, type(self).render()
            except (OSError, ValidationError, SluiceError) as error:
                status, body = 503, f"{type(error).__name__}\n".encode()
                sys.stderr.write(f"exporter: {str(error).splitlines()[0]}\n")
        self.send_response(status)
        self.send_header("content-type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Scrapes are not news."""


def expose(render: Callable[[], bytes], host: str, port: int) -> None:
    """Serve ``/metrics`` until killed; prints ``ready http://host:port`` once it listens. Port 0 takes a free one."""
    handler = type("Handler", (_Handler,), {"render": staticmethod(render)})
    with HTTPServer((host, port), handler) as server:
        sys.stdout.write(f"ready http://{host}:{server.server_port}\n")
        sys.stdout.flush()
        server.serve_forever()
