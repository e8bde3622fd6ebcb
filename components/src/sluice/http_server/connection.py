"""
uvicorn's connection with bounds on what a client may keep it busy with.

* head: at most ``MAX_HEADERS`` fields and ``MAX_HEAD_BYTES``, else 431; uvicorn takes any number;
* trailers are dropped; uvicorn appends them to the headers, where they would pass for what a gateway has set;
* a request arrives within ``READ_S``, else 408; uvicorn waits for ever. An answer is read in that time too;
* what is no HTTP gets 400 as JSON and no line in the log; what was asked before it on the connection is answered first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

MAX_HEADERS, MAX_HEAD_BYTES = 200, 64 << 10
"""Twice what Envoy lets pass by default, which adds some of its own; its own bound of bytes."""
READ_S = 15.0
LINGER_S = 1.0
"""How long the rest of what was refused is read and dropped, so that the refusal is seen."""
IDLE_S = 1.0
"""A connection that was used this short a time ago may be bringing a request just now."""
_NOT_HTTP = (400, "request: is not HTTP/1.1; send a request line, headers and a body of the length that they say")
_LARGE_HEAD = (431, f"headers: are more than {MAX_HEADERS} or over {MAX_HEAD_BYTES >> 10} KiB; send fewer, or a body")
_LATE = (408, f"request: did not arrive within {READ_S:g} s; send it faster or in smaller parts")


class ServerLife(ServerState):
    """
    What the connections of a server share.

    Args:
        refused: told of each request that was refused before an application could see it: its status and why.
    """

    def __init__(self, refused: Callable[[int, str], None]) -> None:
        super().__init__()
        self.ending = False
        self.refused = refused


class BoundedConnection(HttpToolsProtocol):
    """See the module."""

    server_state: ServerLife

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """It is idle until its first byte."""
        super().connection_made(transport)
        self._head_bytes = 0
        self._start: float | None = None
        self._unread_since: float | None = None
        self._deaf = self._in_use = False
        self._last_used = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """Bytes of a request, or of several."""
        if self._deaf:
            return
        self._unset_keepalive_if_required()
        self._head_bytes += len(data)
        try:
            self._parse(memoryview(data))
        except httptools.HttpParserError as error:
            self._refuse(*(_LARGE_HEAD if isinstance(error.__context__, _LargeHead) else _NOT_HTTP))
        else:
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(*_LARGE_HEAD)

    def _parse(self, data: memoryview) -> None:
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:  # no other protocol is spoken: a request as any other
                data = data[upgrade.args[0] :]
            else:
                return

    def on_message_begin(self) -> None:
        """The clock of a request starts."""
        super().on_message_begin()
        self._start = self.loop.time()

    def on_headers_complete(self) -> None:
        """A head is whole: of a size that is handed on, or of none."""
        if len(self.headers) > MAX_HEADERS or self._is_too_large():
            raise _LargeHead
        self._head_bytes = 0
        super().on_headers_complete()
        self._in_use = True
        self.headers = []  # the application has the list of before; trailers go into this one
        if self.server_state.ending:
            self.cycle.keep_alive = False

    def _is_too_large(self) -> bool:
        if self._head_bytes <= MAX_HEAD_BYTES:  # with the body that came along
            return False
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > MAX_HEAD_BYTES

    def on_body(self, body: bytes) -> None:
        """What is neither head nor body counts as head: trailers, and extensions of chunks."""
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The clock of a request stops."""
        self._start, self._head_bytes = None, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """It is idle, or its next request begins."""
        self._last_used = self.loop.time()
        super().on_response_complete()

    def check_time(self, now: float) -> None:
        """End what takes too long; called every now and then."""
        if self.transport.is_closing() or self.flow.write_paused:
            self._unread_since = self._unread_since or now
            if now - self._unread_since > READ_S:
                self.transport.abort()
            return
        self._unread_since = None
        if self._deaf:
            return
        if self._start is not None and self.flow.read_paused:
            self._start = now  # we are the slow ones
        elif self._start is not None and now - self._start > READ_S:
            self._refuse(*_LATE)
        elif not self._in_use and now - self._last_used > self.timeout_keep_alive:
            self.transport.close()

    def wind_down(self, now: float) -> None:
        """The server ends: say so with the next answer, and close where nobody is about to ask."""
        if self._in_use and not self.cycle.response_complete:
            self.cycle.keep_alive = False
        elif self._start is None and now - self._last_used >= IDLE_S:
            self.transport.close()

    def _refuse(self, status: int, text: str) -> None:
        """Answer what is no request, unless answers to earlier ones are under way: those come instead."""
        self._deaf = True
        cycle, is_open = self.cycle, self._in_use and not self.cycle.response_complete
        if is_open and not cycle.more_body:
            cycle.keep_alive = False
            return
        if self.transport.is_closing():
            return
        if self.pipeline or (is_open and cycle.response_started):
            self.transport.abort()
            return
        self._write(status, orjson.dumps({"error": text}))
        if is_open:
            cycle.disconnected = True  # for the application its client has left
            cycle.message_event.set()
        else:
            self.server_state.refused(status, text)
        self.loop.call_later(LINGER_S, self.transport.close)

    def _write(self, status: int, body: bytes) -> None:
        kind: list[tuple[bytes, bytes]] = [(b"content-type", b"application/json"), (b"connection", b"close")]
        kind += [*self.server_state.default_headers, (b"content-length", b"%d" % len(body))]
        lines = [b"%s: %s\r\n" % each for each in kind]
        self.transport.write(b"".join([STATUS_LINE[status], *lines, b"\r\n", body]))


class _LargeHead(Exception):
    """What a callback of the parser says to whoever called the parser."""
