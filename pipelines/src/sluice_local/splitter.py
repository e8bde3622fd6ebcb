"""
Stand-in for the gateway: splits requests by weight and mirrors copies, as an HTTPRoute with RequestMirror does.

    python -m sluice_local.splitter --port 0

    PUT /-/routes    backends, weights, mirror (``Routes`` as JSON)
    GET /-/routes    the same, as they are in force
    GET /-/idle      answers once no mirrored request is waiting or under way
    GET /-/counts    requests, failures and dropped copies by side

Everything else goes to a backend, with ``x-sluice-route`` and ``x-sluice-rollout`` set; where the host begins with
``preview-``, to a candidate that gets no user's request. Copies leave the request's path
through a bounded queue: a hung candidate costs its own copies, never an answer.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
import uuid
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import orjson
import uvicorn
from pydantic import ValidationError

from sluice.child_process import end_with_stdin
from sluice_local.connection import Client, Unreachable
from sluice_local.routes import ArmName, Routes

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

Headers = list[tuple[bytes, bytes]]

MAX_BODY_BYTES = 2 << 20
TIMEOUT_S = 10.0
MIRROR_TIMEOUT_S = 3.0
MIRROR_QUEUE = 512
MIRROR_WORKERS = 16
PREVIEW_HOST = b"preview-"
_OURS = frozenset(
    {b"host", b"connection", b"content-length", b"transfer-encoding", b"x-request-id"}
    | {b"x-sluice-route", b"x-sluice-rollout"}
)


@dataclass(frozen=True)
class _Message:
    """A request on its way to a backend."""

    method: bytes
    path: bytes
    headers: Headers
    body: bytes

    def on(self, route: str) -> _Message:
        """The same, marked with the route that it takes."""
        return replace(self, headers=[*self.headers, (b"x-sluice-route", route.encode())])


class Splitter:
    """The ASGI application."""

    def __init__(self) -> None:
        self.routes = Routes()
        self.counts: Counter[str] = Counter()
        self._clients: dict[str, Client] = {}
        self._copies: asyncio.Queue[tuple[Client, _Message]] = asyncio.Queue(MIRROR_QUEUE)
        self._workers: list[asyncio.Task[None]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        body = await _body(receive)
        if body is None:
            await send_answer(
                send, 413, _error("body", f"is larger than {MAX_BODY_BYTES} bytes", "send fewer instances")
            )
        elif scope["path"].startswith("/-/"):
            await send_answer(send, *await self._admin(scope["method"], scope["path"], body))
        else:
            await self._forward(scope, body, send)

    async def _forward(self, scope: Scope, body: bytes, send: Send) -> None:
        headers: Headers = scope["headers"]
        request_id = dict(headers).get(b"x-request-id", b"").decode("latin-1") or uuid.uuid4().hex
        is_preview = dict(headers).get(b"host", b"").startswith(PREVIEW_HOST)
        arm = self.routes.preview if is_preview else self.routes.arm(request_id)
        client = self._client(arm)
        if arm is None or client is None:
            self.counts["unrouted"] += 1
            await send_answer(send, 503, _error("route", "leads nowhere: nothing is released", "release a model first"))
            return
        message = _Message(scope["method"].encode(), _target(scope), self._headers(headers, request_id), body)
        if message.method == b"POST" and self.routes.mirrored(request_id):
            self._mirror(message.on("shadow"))
        status, answer, kind = await self._exchange(client, message.on(arm), arm)
        await send_answer(send, status, answer, kind, [(b"x-sluice-route", arm.encode())])

    def _headers(self, headers: Headers, request_id: str) -> Headers:
        passed = [header for header in headers if header[0] not in _OURS]
        return [
            *passed,
            (b"x-request-id", request_id.encode("latin-1")),
            (b"x-sluice-rollout", self.routes.rollout.encode()),
        ]

    async def _exchange(self, client: Client, message: _Message, arm: ArmName) -> tuple[int, bytes, bytes]:
        """Status, body and content type of the backend's answer, or of ours in its place."""
        self.counts[f"{arm}.requests"] += 1
        try:
            answer = await client.request(message.method, message.path, message.headers, message.body, TIMEOUT_S)
        except Unreachable as error:
            self.counts[f"{arm}.unreachable"] += 1
            return 503, _error(f"{arm} server", f"cannot be reached ({error})", "try again"), b"application/json"
        except TimeoutError:
            self.counts[f"{arm}.timeouts"] += 1
            return 504, _error(f"{arm} server", f"gave no answer in {TIMEOUT_S:g} s", "try again"), b"application/json"
        if answer.status >= 500:
            self.counts[f"{arm}.errors"] += 1
        return answer.status, answer.body, answer.headers.get(b"content-type", b"application/json")

    def _client(self, arm: ArmName | None) -> Client | None:
        url = {"stable": self.routes.stable, "candidate": self.routes.candidate}.get(arm or "")
        if url is None:
            return None
        if url not in self._clients:
            self._clients[url] = Client(url)
        return self._clients[url]

    def _mirror(self, message: _Message) -> None:
        """Queue a copy for the candidate; a full queue drops it."""
        client = self._client("candidate")
        if not self._workers:
            self._workers = [asyncio.create_task(self._work()) for _ in range(MIRROR_WORKERS)]
        try:
            assert client is not None  # noqa: S101  a mirror has a candidate
            self._copies.put_nowait((client, message))
        except asyncio.QueueFull:
            self.counts["shadow.dropped"] += 1

    async def _work(self) -> None:
        while True:
            client, copy = await self._copies.get()
            self.counts["shadow.requests"] += 1
            try:
                answer = await client.request(copy.method, copy.path, copy.headers, copy.body, MIRROR_TIMEOUT_S)
                self.counts["shadow.errors"] += answer.status >= 500
            except Unreachable:
                self.counts["shadow.unreachable"] += 1
            except TimeoutError:
                self.counts["shadow.timeouts"] += 1
            finally:
                self._copies.task_done()

    async def _admin(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if (method, path) == ("GET", "/-/routes"):
            return 200, self.routes.model_dump_json().encode()
        if (method, path) == ("GET", "/-/counts"):
            return 200, orjson.dumps(dict(self.counts))
        if (method, path) == ("GET", "/-/idle"):
            await self._copies.join()
            return 200, orjson.dumps(dict(self.counts))
        if (method, path) == ("PUT", "/-/routes"):
            return self._put(body)
        return 404, _error(path, "is not an admin path", "see GET /-/routes, /-/idle, /-/counts")

    def _put(self, body: bytes) -> tuple[int, bytes]:
        try:
            self.routes = Routes.model_validate_json(body)
        except ValidationError as error:
            first = error.errors()[0]
            return 400, _error("routes " + ".".join(map(str, first["loc"])), first["msg"], "send Routes as JSON")
        backends = {self.routes.stable, self.routes.candidate}
        for url in self._clients.keys() - backends:
            self._clients.pop(url).close()
        return 200, self.routes.model_dump_json().encode()


def _target(scope: Scope) -> bytes:
    query: bytes = scope["query_string"]
    path: bytes = scope["raw_path"]
    return path + b"?" + query if query else path


async def _body(receive: Receive) -> bytes | None:
    """The whole body; ``None`` when it is too large."""
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return body if len(body) <= MAX_BODY_BYTES else None
    pieces, size = [body], len(body)
    while message.get("more_body"):
        message = await receive()
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > MAX_BODY_BYTES:
            return None
    return b"".join(pieces)


async def send_answer(
    send: Send, status: int, body: bytes, kind: bytes = b"application/json", more: Headers | None = None
) -> None:
    """One whole answer."""
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *(more or [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _error(thing: str, rule: str, fix: str) -> bytes:
    return orjson.dumps({"error": f"{thing}: {rule}; {fix}"})


def main() -> None:
    """Listen on loopback until SIGTERM."""
    parser = argparse.ArgumentParser(description="Split requests by weight and mirror copies.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port")
    parser.add_argument("--end_with_stdin", action="store_true", help="end when standard input ends")
    options = parser.parse_args()
    if options.end_with_stdin:
        end_with_stdin()
    # The protocol number makes asyncio switch Nagle's delay off.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", options.port))
    listener.listen(512)
    config = uvicorn.Config(
        Splitter(), log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=2
    )
    sys.stdout.write(f"ready http://127.0.0.1:{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
