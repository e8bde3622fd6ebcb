"""Numbers for a Prometheus: a server that collects anew for each scrape."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer
from pydantic import ValidationError

from sluice.errors import SluiceError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from prometheus_client.registry import Collector


class _Handler(WSGIRequestHandler):
    timeout = 10
    """Seconds for a request to arrive; a client that sends nothing holds its thread so long, and nobody else's."""

    def handle(self) -> None:
        """A request, or none that came in time."""
        with contextlib.suppress(TimeoutError, ConnectionError):
            super().handle()

    def log_message(self, *_: object) -> None:
        """Scrapes are not news."""


def expose(collector: Collector, host: str, port: int) -> None:
    """Serve ``/metrics`` until killed; prints ``ready http://host:port`` once it listens. Port 0 takes a free one."""
    registry = CollectorRegistry()
    registry.register(collector)
    application = _application(make_wsgi_app(registry))
    with make_server(host, port, application, ThreadingWSGIServer, _Handler) as server:
        sys.stdout.write(f"ready http://{host}:{server.server_port}\n")
        sys.stdout.flush()
        server.serve_forever()


def _application(metrics: WSGIApplication) -> WSGIApplication:
    """What cannot be read fails the scrape, and Prometheus sees series that end; ``/healthz`` asks for nothing."""
    one_at_a_time = threading.Lock()  # what is collected, a clone of Git say, knows no threads

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        status, body = "404 Not Found", b"see /metrics\n"
        if environ["PATH_INFO"] == "/healthz":
            status, body = "200 OK", b"up\n"
        elif environ["PATH_INFO"] == "/metrics":
            try:
                with one_at_a_time:
                    return metrics(environ, start_response)
            except (OSError, ValidationError, SluiceError) as error:
                status, body = "503 Service Unavailable", f"{type(error).__name__}\n".encode()
                sys.stderr.write(f"exporter: {str(error).splitlines()[0]}\n")
        start_response(status, [("content-type", "text/plain; charset=utf-8")])
        return [body]

    return application
