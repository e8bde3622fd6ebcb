"""An API server that has the ConfigMap of a gate, and nothing else."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PATH = "/api/v1/namespaces/sluice-dev/configmaps/gate-seen"


@contextlib.contextmanager
def kube_api(kept: dict[str, str] | None) -> Iterator[str]:
    """Its URL while it runs; ``kept`` is the ConfigMap's data, without which there is none."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if kept is None or self.path != PATH:
                self._answer(404, {"kind": "Status", "code": 404})
            else:
                self._answer(200, {"kind": "ConfigMap", "apiVersion": "v1", "data": kept})

        def do_PATCH(self) -> None:
            if kept is not None and self.path == PATH:
                length = int(self.headers["Content-Length"])
                kept.update(json.loads(self.rfile.read(length))["data"])
            self.do_GET()

        def _answer(self, code: int, document: object) -> None:
            text = json.dumps(document).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  as it is called
            """Keep still."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
