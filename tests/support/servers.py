"""Real servers for tests: Redis, and an S3 protocol server. Each is a process of its own that a test may kill."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import boto3
import pytest

from tests.support.patience import wait_until, work_of


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@dataclass
class Server:
    """A process that listens on ``port``, and can be stopped and started again there."""

    command: list[str]
    port: int
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it listens."""
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(
            self.command, env={**os.environ, **self.environment}, stdin=quiet, stdout=quiet, stderr=quiet
        )
        try:
            pid = self.process.pid
            wait_until(f"{self.command[0]} listens", self._listens, progress=lambda: work_of(pid))
        except AssertionError:
            self.kill()
            raise

    def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"{self.command[0]} ended with {self.process.returncode}"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        """SIGKILL: nothing is said to anybody."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """The server while the test runs."""
    server.start()
    try:
        yield server
    finally:
        server.kill()


def redis_server(directory: Path, password: str = "") -> Server:
    """A Redis that keeps nothing on disk; the test is skipped where there is none."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("NOT CHECKED: there is no redis-server (Debian: apt-get install redis-server)")
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)]
    return Server([program, *options, *(["--requirepass", password] if password else [])], port)


def s3_server() -> Server:
    """A server of the S3 protocol that keeps objects in memory."""
    port = free_port()
    return Server([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port)


def use_s3(patch: pytest.MonkeyPatch, server: Server) -> None:
    """Let the environment name the server and its credentials, as a pod's does."""
    names = {"ENDPOINT_URL": f"http://127.0.0.1:{server.port}", "ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret"}
    for name, value in (names | {"DEFAULT_REGION": "us-east-1", "EC2_METADATA_DISABLED": "true"}).items():
        patch.setenv(f"AWS_{name}", value)


@contextmanager
def s3_bucket(name: str) -> Iterator[Server]:
    """A server of the S3 protocol that the environment names, with a bucket."""
    with running(s3_server()) as server, pytest.MonkeyPatch.context() as patch:
        use_s3(patch, server)
        boto3.client("s3").create_bucket(Bucket=name)
        yield server
