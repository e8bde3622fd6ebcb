"""
An answer that comes before the request's body was read to its end, and still arrives.

A server that closes a connection on which unread bytes wait resets it, and the sender, who is still writing, may see
the reset instead of the answer (RFC 9112, section 9.6). So the rest of the body is read and dropped first, in bounds.
"""

from __future__ import annotations

import asyncio
import contextlib

from starlette.types import ASGIApp, Message, Receive, Scope, Send

DROPPED_BYTES, DROPPED_S = 32 << 20, 1.0
"""Who sends more, or slower, may see a reset."""


class Lingering:
    """An ASGI application whose early answers arrive."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD"}:
            await self._app(scope, receive, send)
            return
        complete = False

        async def receive_and_note() -> Message:
            nonlocal complete
            message = await receive()
            complete = not message.get("more_body", False)
            return message

        async def send_after_body(message: Message) -> None:
            if not complete and message["type"] == "http.response.start" and not _waits_for_leave(scope):
                await _drop(receive_and_note)
            await send(message)

        await self._app(scope, receive_and_note, send_after_body)


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
