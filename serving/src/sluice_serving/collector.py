"""
Receive predictions and labels, and keep them in a store.

    python -m sluice_serving.collector --store s3://predictions --task TASK --environment dev [--port 8080] [--host IP]

    PUT  /v1/predictions/<time>-<sha256>   a batch of a server's prediction log, one JSON object a line
    POST /v1/events                        CloudEvents of KServe's payload logger, for what they carry
    POST /v1/feedback                      labels: {"labels": [{"request_id": "…", "label": 0 or 1, …}, …]}, or
                                           whatever a label of the task's --target is
    GET  /-/live, /metrics

200 means stored. 4xx says what is wrong and is not worth sending again; 503 means that the store does not answer or
that there is too much at once: send it again. It keeps nothing itself, so it may be killed, restarted and doubled.

    sluice_collected_predictions_total{task,digest}   rows stored; a batch that was sent twice counts twice
    sluice_feedback_total{task,digest}                labels stored
    sluice_feedback_reward_total{task,digest}         sum of their rewards
    sluice_collector_requests_total{task,endpoint,status}

``digest`` is ``unknown`` where a label does not say it, and ``other`` where no prediction of it came by here.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import product
from typing import TYPE_CHECKING, Any

import orjson
import polars as pl
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Counter as Family

from sluice.child_process import end_with_stdin
from sluice.errors import SluiceError
from sluice.feedback.batch import MAX_BATCH_BYTES, Batch, parse_feedback, parse_predictions
from sluice.feedback.events import parse_event
from sluice.feedback.store import BatchKind, PredictionStore
from sluice.http_server.boundary import ErrorLines
from sluice.http_server.server import HttpServer, listen
from sluice.models.request import MAX_BODY_BYTES, BadRequest, excerpt
from sluice.targets.kind import TargetKind
from sluice.targets.registry import BINARY, target_of

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

BATCHES_AT_ONCE, ROWS_AT_ONCE = 8, 200
"""Requests with a body; more are told to come again, so that memory is bounded."""
_MAX_ROWS_BYTES = MAX_BODY_BYTES // 2
"""A thousand labels, or the answer to a thousand instances."""
_GRACE_S = 20
"""For batches that are on their way to the store at the end; less than a pod's grace of 30 s."""
_GATHER_S = 0.1
"""How long labels are waited for that go into one object with the first."""
_MOST_DIGESTS = 20


class _TryAgain(Exception):
    """Not the sender's fault: 503."""


class CollectorCounts:
    """What was stored, for a scrape; whatever senders say, the label values are bounded."""

    def __init__(self, task: str) -> None:
        self.registry, self._task = CollectorRegistry(), task
        self._digests: OrderedDict[str, None] = OrderedDict()
        names = ["task", "digest"]
        self._predictions = self._counter("sluice_collected_predictions", "Rows stored.", names)
        self._labels = self._counter("sluice_feedback", "Labels stored.", names)
        self._rewards = self._counter("sluice_feedback_reward", "Sum of their rewards.", names)
        self._requests = self._counter("sluice_collector_requests", "Requests.", ["task", "endpoint", "status"])
        for endpoint, status in product(("predictions", "rows"), (200, 503)):  # an increase needs a zero before it
            self._requests.labels(task, endpoint, str(status))

    def _counter(self, name: str, about: str, names: list[str]) -> Family:
        return Family(name, about, names, registry=self.registry)

    def request(self, endpoint: str, status: int) -> None:
        """One was answered."""
        self._requests.labels(self._task, endpoint, str(status)).inc()

    def predictions(self, frame: pl.DataFrame) -> None:
        """A batch was stored."""
        for digest, n in frame.group_by("digest").len().iter_rows():
            self._digests[digest] = None
            self._digests.move_to_end(digest)
            self._predictions.labels(self._task, digest).inc(n)
        while len(self._digests) > _MOST_DIGESTS:
            oldest, _ = self._digests.popitem(last=False)
            for counter in (self._predictions, self._labels, self._rewards):
                with contextlib.suppress(KeyError):
                    counter.remove(self._task, oldest)

    def labels(self, frame: pl.DataFrame) -> None:
        """Labels were stored. A counter cannot fall: rewards below zero count as none."""
        for digest, reward in frame.select("digest", "reward").iter_rows():
            known = self._digest_label(digest)
            self._labels.labels(self._task, known).inc()
            self._rewards.labels(self._task, known).inc(max(reward or 0.0, 0.0))

    def _digest_label(self, digest: str | None) -> str:
        if digest is None:
            return "unknown"
        return digest if digest in self._digests else "other"


class _RowBatches:
    """Rows of many small requests go into one object; each is answered when that is stored."""

    def __init__(self, store: PredictionStore, kind: BatchKind) -> None:
        self._store, self._kind = store, kind
        self._waiting: list[tuple[pl.DataFrame, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def put(self, rows: pl.DataFrame) -> None:
        """Returns when the rows are stored; raises what the store raises."""
        stored = asyncio.get_running_loop().create_future()
        self._waiting.append((rows, stored))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        await stored

    async def _write(self) -> None:
        while self._waiting:
            await asyncio.sleep(_GATHER_S)
            waiting, self._waiting = self._waiting, []
            frame = pl.concat([rows for rows, _ in waiting])
            batch = Batch.of(datetime.now(UTC), frame.write_json().encode())
            try:
                await asyncio.to_thread(self._store.put, self._kind, batch, frame)
            except Exception as error:  # noqa: BLE001  whatever it is, every sender must hear of it
                _settle(waiting, error)
            else:
                _settle(waiting, None)
        self._writing = None


def _settle(waiting: list[tuple[pl.DataFrame, asyncio.Future[None]]], error: Exception | None) -> None:
    for _, stored in waiting:
        if not stored.done():
            stored.set_exception(error) if error else stored.set_result(None)


class CollectorApp:
    """The ASGI application."""

    def __init__(self, store: PredictionStore) -> None:
        self._store, self.counts = store, CollectorCounts(store.task)
        self._labels, self._events = _RowBatches(store, "labels"), _RowBatches(store, "predictions")
        self._busy: Counter[int] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        if scope["method"] == "GET" and scope["path"] == "/metrics":
            await _answer(send, 200, generate_latest(self.counts.registry), b"text/plain; version=0.0.4; charset=utf-8")
            return
        endpoint, status, document = await self._response(scope, receive)
        self.counts.request(endpoint, status)
        await _answer(send, status, orjson.dumps(document))

    async def _response(self, scope: Scope, receive: Receive) -> tuple[str, int, dict[str, Any]]:
        """Which endpoint, its status and its answer; whatever happens, there is one."""
        head, _, name = scope["path"].rpartition("/")
        endpoint = _ENDPOINTS.get((scope["method"], head), "other")
        try:
            return endpoint, 200, await self._handle(endpoint, name, scope, receive)
        except BadRequest as error:
            return endpoint, error.status, {"error": str(error)}
        except (_TryAgain, SluiceError) as error:
            return endpoint, 503, {"error": str(error)}
        except Exception as error:  # noqa: BLE001  a sender that is told 503 keeps what it has
            sys.stderr.write(f"collector: {endpoint}: {type(error).__name__}: {error}\n")
            return endpoint, 503, {"error": "the collector failed; send it again"}

    async def _handle(self, endpoint: str, name: str, scope: Scope, receive: Receive) -> dict[str, Any]:
        if (endpoint, name) == ("state", "live"):
            return {"live": True}
        if endpoint == "predictions":
            async with self._body(scope, receive, MAX_BATCH_BYTES, BATCHES_AT_ONCE) as body:
                return {"stored": await self._predictions(name, body)}
        if endpoint == "rows" and name in {"feedback", "events"}:
            async with self._body(scope, receive, _MAX_ROWS_BYTES, ROWS_AT_ONCE) as body:
                return {"stored": await (self._event(scope, body) if name == "events" else self._feedback(body))}
        fix = "see docs/predictions-and-labels.md"
        raise BadRequest(f"path {excerpt(scope['path'])}", "is not one of the collector's", fix, status=404)

    @contextlib.asynccontextmanager
    async def _body(self, scope: Scope, receive: Receive, most: int, at_once: int) -> AsyncIterator[bytes]:
        """The body, while there are not too many of its size."""
        if self._busy[most] >= at_once:
            raise _TryAgain(f"collector: {at_once} such requests are under way; send it again")
        self._busy[most] += 1
        try:
            yield await _whole_body(scope, receive, most)
        finally:
            self._busy[most] -= 1

    async def _predictions(self, name: str, body: bytes) -> int:
        batch = Batch.from_name(name)
        frame = await asyncio.to_thread(parse_predictions, batch, body)
        await asyncio.to_thread(self._store.put, "predictions", batch, frame)
        self.counts.predictions(frame)
        return frame.height

    async def _feedback(self, body: bytes) -> int:
        labels = parse_feedback(body, datetime.now(UTC), self._store.target)
        await self._labels.put(labels)
        self.counts.labels(labels)
        return labels.height

    async def _event(self, scope: Scope, body: bytes) -> int:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        rows = parse_event(headers, body, datetime.now(UTC), self._store.target)
        if not rows.is_empty():
            await self._events.put(rows)
            self.counts.predictions(rows)
        return rows.height


_ENDPOINTS = {("GET", "/-"): "state", ("PUT", "/v1/predictions"): "predictions", ("POST", "/v1"): "rows"}


async def _whole_body(scope: Scope, receive: Receive, most: int) -> bytes:
    pieces, size, more = [], 0, True
    headers = dict(scope["headers"])
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length) > most:
        raise _too_large(most)
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadRequest("body", "ended early", "send all of it, in time", status=408)  # nobody is there to read it
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        more = message.get("more_body", False)
        if size > most:
            raise _too_large(most)
    return b"".join(pieces)


def _too_large(most: int) -> BadRequest:
    return BadRequest("body", f"is larger than {most} bytes", "send smaller batches", status=413)


async def _answer(send: Send, status: int, body: bytes, kind: bytes = b"application/json") -> None:
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    # A body that was not read to its end would be taken for the next request.
    headers += [(b"connection", b"close")] if status in {404, 408, 413, 503} else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _target(text: str) -> TargetKind:
    try:
        return target_of(orjson.loads(text))
    except (orjson.JSONDecodeError, AttributeError, SluiceError) as error:
        raise argparse.ArgumentTypeError(f"{error}; give Task.target.model_dump_json()") from error


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Keep predictions and labels in a store.")
    parser.add_argument("--store", required=True, help="s3://bucket/prefix or file:///directory")
    parser.add_argument("--task", required=True)
    parser.add_argument("--environment", required=True)
    parser.add_argument(
        "--target",
        type=_target,
        default=BINARY,
        help='the task\'s kind of target as JSON, such as {"kind": "regression"}; labels are 0 or 1 without it',
    )
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 inside a pod")
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free port")
    parser.add_argument("--end_with_stdin", action="store_true", help="end when the parent closes our standard input")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Entry point; 2 for settings that are wrong. Ends on SIGTERM when what is under way is stored."""
    options = _arguments(argv)
    if options.end_with_stdin:
        end_with_stdin()
    try:
        store = PredictionStore.open(options.store, options.task, options.environment, os.environ, options.target)
        app = CollectorApp(store)
        listener = listen(options.host, options.port)
    except (SluiceError, OSError) as error:
        sys.stderr.write(f"collector: {error}\n")
        return 2
    host, port = listener.getsockname()[:2]
    sys.stdout.write(f"ready http://{host}:{port}\n")
    sys.stdout.flush()
    server = HttpServer(app, _GRACE_S, ErrorLines("collector"), lambda status, _: app.counts.request("other", status))
    asyncio.run(server.serve(sockets=[listener]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
