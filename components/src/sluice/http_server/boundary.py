"""
Every request gets an answer, and the answer arrives.

An application that raises is answered for with status 500 and reported in one line, and the connection goes on: uvicorn
writes a traceback and closes without a word, so that the next request on the connection is lost.

An answer may come before the request's body was read to its end. A server that closes a connection on which unread
bytes wait resets it, and the sender, who is still writing, may see the reset instead of the answer (RFC 9112, section
9.6). So the rest of the body is read and dropped first, in bounds.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from sluice.errors import one_line

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

DROPPED_BYTES, DROPPED_S = 32 << 20, 1.0
"""Who sends more, or slower, may see a reset."""
ErrorReport = Callable[[Exception], None]
FAILURE = orjson.dumps({"error": "the server: failed; this is no fault of the request, see the server's log"})
_LINES_A_SECOND = 10


class Boundary:
    """
    An ASGI application around another.

    Args:
        report: told of each error that the other raises while its client is still there.
    """

    def __init__(self, app: ASGIApp, report: ErrorReport) -> None:
        self._app, self._report = app, report

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        complete, client_is_there, answer = scope["method"] in {"GET", "HEAD"}, True, ""

        async def receive_and_note() -> Message:
            nonlocal complete, client_is_there
            message = await receive()
            client_is_there = message["type"] != "http.disconnect"
            complete = not message.get("more_body", False)
            return message

        async def send_after_body(message: Message) -> None:
            nonlocal answer
            if not complete and message["type"] == "http.response.start" and not _waits_for_leave(scope):
                await _drop(receive_and_note)
            answer = "head" if message["type"] == "http.response.start" or message.get("more_body") else "whole"
            await send(message)

        try:
            await self._app(scope, receive_and_note, send_after_body)
        except Exception as error:
            if not client_is_there:
                return
            self._report(error)
            if answer == "head":
                raise  # uvicorn cuts it off; nothing else would tell the client
            if not answer:
                await _fail(send_after_body)


async def _fail(send: Send) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(FAILURE))]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": FAILURE})


def _waits_for_leave(scope: Scope) -> bool:
    return any(name == b"expect" for name, _ in scope["headers"])  # nothing was sent yet; reading would ask for it


async def _drop(receive: Receive) -> None:
    size = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DROPPED_S):
            while size < DROPPED_BYTES:
                message = await receive()
                size += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


class ErrorLines:
    """
    Errors on standard error, each a line that says where it was raised; at most ten a second.

    Args:
        name: of the server.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._second, self._lines = 0, 0

    def __call__(self, error: Exception) -> None:
        """ErrorReport it."""
        if (now := int(time.monotonic())) != self._second:
            self._second, self._lines = now, 0
        self._lines += 1
        if self._lines <= _LINES_A_SECOND:
            sys.stderr.write(f"{self._name}: {line_of(error)}\n")


def line_of(error: Exception) -> str:
    """An error of whatever kind, where it was raised, on one line."""
    frames = traceback.extract_tb(error.__traceback__, limit=-1)
    place = f" ({Path(frames[0].filename).name}:{frames[0].lineno})" if frames else ""
    return f"{type(error).__name__}: {one_line(error, 300)}{place}"
