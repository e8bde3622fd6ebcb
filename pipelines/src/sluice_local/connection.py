"""
A lean HTTP/1.1 client for loopback: keep-alive connections to one server, one request at a time on each.

httpx and aiohttp spend several times the CPU of the model itself on a request; the splitter and the traffic need a
client a request each, on two cores that also hold the servers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

_HEAD_END = b"\r\n\r\n"


class Unreachable(Exception):
    """No connection, a connection that broke, or an answer that is not HTTP/1.1 with a length."""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; header names in lower case."""

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes


class _Head(NamedTuple):
    """What an answer says before its body."""

    status: int
    headers: dict[bytes, bytes]
    start: int
    """Where the body begins, in bytes."""
    length: int


class _Connection(asyncio.Protocol):
    """One connection; ``exchange`` sends a request and waits for the answer."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: _Head | None = None
        self._waiter: asyncio.Future[Answer] | None = None
        self.transport: asyncio.Transport | None = None
        self.usable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a TCP transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the connection broke ({exc or 'closed by the server'})")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._head is None:
            end = self._buffer.find(_HEAD_END)
            if end < 0:
                return
            try:
                self._head = _parse_head(bytes(self._buffer[:end]), end + len(_HEAD_END))
            except ValueError as error:
                self._fail(f"the answer is not understood ({error})")
                return
        status, headers, start, length = self._head
        if len(self._buffer) - start < length:
            return
        body = bytes(self._buffer[start : start + length])
        self._buffer.clear()
        self._head = None
        if headers.get(b"connection", b"").lower() == b"close":
            self.close()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(Answer(status, headers, body))

    def _fail(self, reason: str) -> None:
        self.close()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(Unreachable(reason))

    def close(self) -> None:
        """Never use this connection again."""
        self.usable = False
        if self.transport is not None:
            self.transport.close()

    async def exchange(self, message: bytes) -> Answer:
        """Send a whole request; a cancelled wait closes the connection, since its answer would come later."""
        self._waiter = asyncio.get_running_loop().create_future()
        assert self.transport is not None  # noqa: S101  set by connection_made
        self.transport.write(message)
        try:
            return await self._waiter
        except BaseException:
            self.close()
            raise


def _parse_head(head: bytes, start: int) -> _Head:
    first, *lines = head.split(b"\r\n")
    if not first.startswith(b"HTTP/1.1 "):
        raise ValueError(f"starts with {first[:20]!r}")
    headers = {}
    for line in lines:
        name, _, value = line.partition(b":")
        headers[name.strip().lower()] = value.strip()
    if b"content-length" not in headers:
        raise ValueError("has no content-length")
    return _Head(int(first[9:12]), headers, start, int(headers[b"content-length"]))


class Client:
    """
    Keep-alive connections to one server.

    Args:
        url: ``http://host:port``.
        host: what the header of that name says, where it is not the server's own.
    """

    def __init__(self, url: str, host: str | None = None) -> None:
        address = urlsplit(url)
        self.url = url
        self._host, self._port = address.hostname or "127.0.0.1", address.port or 80
        self._netloc = (host or address.netloc).encode()
        self._idle: list[_Connection] = []

    async def request(
        self, method: bytes, path: bytes, headers: list[tuple[bytes, bytes]], body: bytes, timeout_s: float
    ) -> Answer:
        """
        One request. On a kept connection that the server closed meanwhile it is sent once more on a fresh one.

        Raises:
            Unreachable: the server cannot be reached or broke off.
            TimeoutError: no whole answer in time.
        """
        lines = [b"%s %s HTTP/1.1\r\nhost: %s\r\ncontent-length: %d" % (method, path, self._netloc, len(body))]
        lines += [b"%s: %s" % header for header in headers]
        message = b"\r\n".join(lines) + _HEAD_END + body
        async with asyncio.timeout(timeout_s):
            while self._idle:
                connection = self._idle.pop()
                if connection.usable:
                    try:
                        return await self._on(connection, message)
                    except Unreachable:
                        break
            return await self._on(await self._connect(), message)

    async def _on(self, connection: _Connection, message: bytes) -> Answer:
        answer = await connection.exchange(message)
        if connection.usable:
            self._idle.append(connection)
        return answer

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(_Connection, self._host, self._port)
        except OSError as error:
            raise Unreachable(f"{self.url}: {error.strerror or error}") from error
        return connection

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()
