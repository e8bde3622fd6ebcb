"""An S3-compatible store for tests: HEAD, GET with ranges, PUT and listing. Runs as a pod; knows no signatures."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class Store(BaseHTTPRequestHandler):
    """Objects are the files below the directories that the command line names; the last one is written to."""

    roots = tuple(Path(name) for name in sys.argv[1:]) or (Path(),)
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        """Size of an object, or 404."""
        self._answer(with_body=False)

    def do_GET(self) -> None:
        """An object, the bytes of its ``Range``, or a list."""
        query = parse_qs(urlsplit(self.path).query)
        if "list-type" in query:
            listed = self._listed(query.get("prefix", [""])[0], query.get("delimiter", [""])[0])
            self._say(200, listed.encode())
        else:
            self._answer(with_body=True)

    def do_PUT(self) -> None:
        """Keep an object, in one piece or in chunks: HTTP's own, and S3's ``aws-chunked`` in them."""
        length = self.headers["Content-Length"]
        data = self.rfile.read(int(length)) if length else b"".join(self._chunks())
        if "x-amz-decoded-content-length" in self.headers:
            data = b"".join(_pieces(data))
        path = self.roots[-1] / self._key.rstrip("/")
        if "/" not in self._key.rstrip("/"):  # a bucket
            path.mkdir(parents=True, exist_ok=True)
            self._say(200, b"")
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{id(self)}")
        beside.write_bytes(data)
        beside.replace(path)
        self._say(200, b"")

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    @property
    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).lstrip("/")

    def _listed(self, prefix: str, delimiter: str) -> str:
        bucket = self._key.strip("/")
        keys = {
            str(path.relative_to(root / bucket)): path.stat().st_size
            for root in self.roots
            for path in (root / bucket).rglob("[!.]*")
            if path.is_file()
        }
        found = {key: size for key, size in sorted(keys.items()) if key.startswith(prefix)}
        inner = {key: key[len(prefix) :].partition(delimiter) for key in found} if delimiter else {}
        folders = sorted({prefix + head + delimiter for head, mark, _ in inner.values() if mark})
        files = [key for key in found if not delimiter or not inner[key][1]]
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{found[key]}</Size>"
            "<LastModified>2020-01-01T00:00:00.000Z</LastModified></Contents>"
            for key in files
        )
        contents += "".join(f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in folders)
        counted = f"<KeyCount>{len(files) + len(folders)}</KeyCount><IsTruncated>false</IsTruncated>"
        return f'<?xml version="1.0"?><ListBucketResult>{counted}{contents}</ListBucketResult>'

    def _answer(self, *, with_body: bool) -> None:
        path = next((root / self._key for root in self.roots if (root / self._key).is_file()), None)
        data = path.read_bytes() if path else None
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

    def _say(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"0"')
        self.end_headers()
        self.wfile.write(body)


def _pieces(data: bytes) -> Iterator[bytes]:
    """Of ``aws-chunked``: size in hexadecimal, perhaps a signature, the bytes; a checksum follows the last one."""
    size = -1
    while size:
        head, _, data = data.partition(b"\r\n")
        size = int(head.partition(b";")[0], 16)
        yield data[:size]
        data = data[size + 2 :]


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", 9000), Store).serve_forever()  # noqa: S104  a pod's own address
