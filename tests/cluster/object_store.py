"""An S3-compatible store for tests: HEAD and GET of a few objects, with ranges. Runs as a pod; knows no signatures."""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Store(BaseHTTPRequestHandler):
    """Objects are the files below the directory that the command line names."""

    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        """Size of an object, or 404."""
        self._answer(with_body=False)

    def do_GET(self) -> None:
        """An object, or the bytes of its ``Range``."""
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        path = self.root / self.path.partition("?")[0].lstrip("/")
        data = path.read_bytes() if path.is_file() else None
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        part = (data or b"")[int(first) : int(last) + 1 if last else None]
        self.send_response(404 if data is None else 206 if "Range" in self.headers else 200)
        if data is not None and "Range" in self.headers:
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.send_header("ETag", '"0"')
        self.send_header("Last-Modified", "Wed, 01 Jan 2020 00:00:00 GMT")
        self.end_headers()
        if with_body:
            self.wfile.write(part)


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", 9000), Store).serve_forever()  # noqa: S104  a pod's own address
