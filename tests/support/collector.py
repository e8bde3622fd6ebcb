"""A collector, model servers that ship to it, and what is in the store then."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl

from sluice.child_process import ChildServer
from sluice.feedback.store import BatchKind, PredictionStore
from sluice.workspace import bundle_directory
from tests.support.patience import url_of
from tests.support.tiny_bundle import write_tiny_bundle

ROOT = Path(__file__).parents[2]
V1 = "/v1/models/tiny:predict"
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@dataclass
class Post:
    """A collector at one port that may come and go, and servers."""

    home: Path
    address: str
    port: int = field(default_factory=free_port)
    children: list[ChildServer] = field(default_factory=list)
    collector: ChildServer | None = None

    @property
    def url(self) -> str:
        """Of the collector."""
        return f"http://127.0.0.1:{self.port}"

    def start_collector(self) -> None:
        """At the same port as the one before."""
        command = [sys.executable, "-m", "sluice_serving.collector", "--store", self.address]
        command += ["--task", "tiny", "--environment", "dev", "--port", str(self.port)]
        self.collector = ChildServer(command, self.home / f"collector-{len(self.children)}.log")
        self.children.append(self.collector)
        url_of(self.collector)

    def start_server(self, threshold: float = 0.5, *more: str, spool: str = "spool") -> tuple[ChildServer, str, str]:
        """A model server; returns it, its address and its digest."""
        digest = write_tiny_bundle(self.home / "bundles", threshold)
        command = [sys.executable, "-m", "sluice_serving.predictor", "--digest", digest, "--model_name", "tiny"]
        command += ["--bundle", str(bundle_directory(self.home / "bundles", digest)), "--http_port", "0"]
        command += ["--collector", self.url, "--spool", str(self.home / spool), "--ship_seconds", "1", *more]
        child = ChildServer(command, self.home / f"server-{len(self.children)}.log")
        self.children.append(child)
        return child, urlsplit(url_of(child)).netloc, digest

    def store(self) -> PredictionStore:
        """What the collector writes to."""
        return PredictionStore.open(self.address, "tiny", "dev", os.environ)

    def rows(self, kind: BatchKind = "predictions") -> pl.DataFrame:
        """All rows of all objects."""
        store = self.store()
        frames = [store.read(kind, batch) for batch in store.batches(kind, LONG_AGO)]
        return pl.concat(frames) if frames else pl.DataFrame(schema={"request_id": pl.String})

    def spooled(self, spool: str = "spool") -> int:
        """Bytes that wait on a server's disk."""
        sizes = 0
        for path in (self.home / spool).glob("*.jsonl"):
            with contextlib.suppress(FileNotFoundError):  # delivered meanwhile
                sizes += path.stat().st_size
        return sizes


@contextlib.contextmanager
def post_in(home: Path, address: str | None = None) -> Iterator[Post]:
    """A post office whose processes end with the block."""
    post = Post(home, address or f"file://{home}/store")
    try:
        yield post
    finally:
        for child in post.children:
            child.stop()


def call(address: str, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Any:
    """Status and body of one request."""
    connection = http.client.HTTPConnection(address, timeout=20)
    try:
        connection.request(method, path, body, {"content-type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def predict(address: str, request_id: str, rows: list[dict[str, Any]], **headers: str) -> int:
    """Status of one prediction; headers by their name after ``x-sluice-``."""
    named = {f"x-sluice-{name}": value for name, value in headers.items()} | {"x-request-id": request_id}
    status: int = call(address, "POST", V1, json.dumps({"instances": rows}).encode(), named)[0]
    return status


def metric(address: str, name: str) -> float:
    """The sum of a metric's series."""
    lines = call(address, "GET", "/metrics")[1].decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.split("{")[0] == name)


def answer_to_a_slow_sender(address: str, method: str, path: str, size: int) -> int:
    """The status that a sender sees who reads no answer before its whole body of ``size`` bytes is written."""
    host, port = address.split(":")
    head = f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {size}\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=20) as raw:
        raw.sendall(head.encode() + b" " * (size // 2))
        time.sleep(0.2)
        raw.sendall(b" " * (size - size // 2))
        time.sleep(0.2)
        return int(raw.recv(64).split()[1])
