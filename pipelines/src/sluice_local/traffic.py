"""The months after training, replayed in event time as real HTTP requests through the splitter."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import orjson
import polars as pl

from sluice.documents.event_time import iso
from sluice.documents.state import ReleaseState
from sluice.errors import BadInput
from sluice.predictions.log import log_sizes, read_lines, window_frame, window_path, write_window
from sluice.tasks.answers import examples_of
from sluice.tasks.task import Task
from sluice.workspace import Workspace
from sluice_local.connection import Answer, Client, Unreachable
from sluice_local.processes import ask, log_directory
from sluice_local.routes import Routes

TICK = timedelta(minutes=30)
"""Grid on which features are published."""
CONCURRENCY = 16
TIMEOUT_S = 15.0
_IDLE_TIMEOUT_S = 300.0
PREVIEW_HOST = "preview-localhost"
CHECKS = 100
"""Requests of a window that a preview is asked too: the loop's synthetic checks."""


class Publisher(Protocol):
    """Moves the online store forward in event time (``sluice.features.publish.FeaturePublisher``)."""

    def advance(self, to: datetime) -> None:
        """Publish what is known at ``to``."""


class RequestsAlone:
    """Of a task without a feature service: there is nothing to publish."""

    def reset(self, as_of: datetime) -> None:
        """Nothing."""

    def advance(self, to: datetime) -> None:
        """Nothing."""


@dataclass(frozen=True)
class _Request:
    request_id: str
    event_time: datetime
    keys: Mapping[str, Any]
    logged: Mapping[str, Any]
    """The keys as a server's log has them."""


@dataclass(frozen=True)
class _Failure:
    """A request without a prediction: its status, and how long that took."""

    status: int
    latency_ms: float


class TrafficReplay:
    """
    Sends a task's examples to the splitter and collects what the servers logged.

    Args:
        workspace: where logs and windows are.
        task: gives the examples.
        publisher: of the online features; the caller resets it to the first window's start.
        splitter_url: where to send requests.
        environment: folder below ``predictions/``.
        progress: called with (requests done, requests in the window) after every tick.
    """

    def __init__(
        self,
        workspace: Workspace,
        task: Task,
        publisher: Publisher,
        splitter_url: str,
        environment: str,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.task, self.publisher, self.splitter_url = task, publisher, splitter_url
        self.progress = progress
        self._windows = workspace.predictions / environment
        self._logs = log_directory(workspace, environment)

    def window(self, start: datetime, end: datetime, state: ReleaseState) -> Path:
        """
        All requests with event times in ``[start, end)``, sent and collected; an existing window is left as it is.

        The file's content depends on data and state alone, ``latency_ms`` apart. Killed in between, nothing is left:
        the next call sends the whole window again.

        Args:
            start, end: event times, UTC.
            state: what is released, already brought about by ``Reconciler.sync``.

        Returns:
            Path of the window's parquet (``prediction_log.WINDOW_SCHEMA``). A request that got no prediction is a row
            with its status and without score and digest.

        Raises:
            BadInput: the splitter does not answer or was never told any routes.
        """
        path = window_path(self._windows, start, end)
        if path.exists():
            return path
        routes = self._routes(state)
        before = log_sizes(self._logs)
        requests = self._requests(start, end)
        failures = asyncio.run(self._send(requests, start, mirrors=routes.mirror_percent > 0))
        checks = requests[:CHECKS] if routes.preview else []
        unchecked = asyncio.run(self._check(checks))
        logged = list(read_lines(self._logs, before))
        lines = [*expected_lines(logged, requests, failures, routes), *checked_lines(logged, checks, unchecked, routes)]
        write_window(path, window_frame(lines))
        return path

    def _routes(self, state: ReleaseState) -> Routes:
        """
        The routes in force. Where they are not what ``state`` says, the rows show what was routed: a gate sees that
        its step did not take effect.
        """
        routes = Routes.model_validate(ask(self.splitter_url, "/-/routes"))
        if not routes.commit and state.stage != "empty":
            raise BadInput("the splitter", f"has no routes, stage is {state.stage}", "call Reconciler.sync first")
        return routes

    def _requests(self, start: datetime, end: datetime) -> list[_Request]:
        names = [*self.task.entity_keys, *self.task.request_inputs]
        examples = examples_of(self.task, start, end, ("example_id", "event_time", *names))
        examples = examples.unique("example_id", keep="first", maintain_order=True).sort("event_time", "example_id")
        rows = examples.select(names).iter_rows(named=True)
        identity = examples.select("example_id", pl.col("event_time").dt.convert_time_zone("UTC")).iter_rows()
        kinds = {name: kind for name, kind in self.task.inputs.items() if kind.by_digest}
        return [
            _Request(name, moment, keys, {**keys, **{each: kind.digest(keys[each]) for each, kind in kinds.items()}})
            for (name, moment), keys in zip(identity, rows, strict=True)
        ]

    async def _send(self, requests: Sequence[_Request], start: datetime, *, mirrors: bool) -> dict[str, _Failure]:
        """Send tick by tick: features first, then all requests of the tick; the failures by request id."""
        client = Client(self.splitter_url)
        failures: dict[str, _Failure] = {}
        answered = 0
        try:
            for tick, batch in by_tick(requests):
                # A window may start off the grid; the store stands at its start already.
                self.publisher.advance(max(tick, start))
                await self._send_tick(client, batch, failures)
                if mirrors:
                    await client.request(b"GET", b"/-/idle", [], b"", _IDLE_TIMEOUT_S)
                answered += len(batch)
                if self.progress is not None:
                    self.progress(answered, len(requests))
        finally:
            client.close()
        return failures

    async def _check(self, checks: Sequence[_Request]) -> dict[str, _Failure]:
        """Ask the preview; the failures by request id."""
        client, failures = Client(self.splitter_url, PREVIEW_HOST), dict[str, _Failure]()
        try:
            await self._send_tick(client, checks, failures)
        finally:
            client.close()
        return failures

    async def _send_tick(self, client: Client, batch: Iterable[_Request], failures: dict[str, _Failure]) -> None:
        waiting = iter(batch)

        async def worker() -> None:
            for request in waiting:
                failure = await self._send_one(client, request)
                if failure is not None:
                    failures[request.request_id] = failure

        await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))

    async def _send_one(self, client: Client, request: _Request) -> _Failure | None:
        headers = [
            (b"content-type", b"application/json"),
            (b"x-request-id", request.request_id.encode()),
            (b"x-sluice-time", iso(request.event_time).encode()),
        ]
        body = orjson.dumps({"instances": [request.keys]})
        path = f"/v1/models/{self.task.name}:predict".encode()
        begin = time.perf_counter()
        try:
            answer: Answer = await client.request(b"POST", path, headers, body, TIMEOUT_S)
            status = answer.status
        except Unreachable:
            status = 503
        except TimeoutError:
            status = 504
        if status == 200:
            return None
        return _Failure(status, round((time.perf_counter() - begin) * 1000, 4))


def by_tick(requests: Iterable[_Request]) -> Iterator[tuple[datetime, list[_Request]]]:
    """Requests (sorted by time) with the grid point at or before them; grid points without requests are left out."""
    batch: list[_Request] = []
    current: datetime | None = None
    for request in requests:
        tick = floor_tick(request.event_time)
        if current is not None and tick != current:
            yield current, batch
            batch = []
        current = tick
        batch.append(request)
    if current is not None:
        yield current, batch


def floor_tick(moment: datetime) -> datetime:
    """The grid point at or before a moment, UTC."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return epoch + (moment - epoch) // TICK * TICK


def expected_lines(
    lines: Iterable[Mapping[str, Any]],
    requests: Iterable[_Request],
    failures: Mapping[str, _Failure],
    routes: Routes,
) -> Iterator[Mapping[str, Any]]:
    """
    Of the logged lines those that this window must have, and a row for each that is absent.

    What to expect follows from routes and request ids alone, so lines of other windows, rollouts or callers stay out.
    """
    by_route = {(line["request_id"], line["route"]): line for line in lines if line["rollout"] == routes.rollout}
    for request in requests:
        arm = routes.arm(request.request_id) or "stable"
        failure = failures.get(request.request_id)
        line = by_route.get((request.request_id, arm))
        # A late answer that was logged after the client had given up is still a failure to the client.
        is_lost = line is None or (failure is not None and line["status"] < 400)
        yield _failed(request, arm, routes.rollout, failure or _Failure(503, 0.0)) if is_lost or line is None else line
        if routes.mirrored(request.request_id):
            copy = by_route.get((request.request_id, "shadow"))
            yield copy or _failed(request, "shadow", routes.rollout, _Failure(503, 0.0))


def checked_lines(
    lines: Iterable[Mapping[str, Any]],
    checks: Iterable[_Request],
    failures: Mapping[str, _Failure],
    routes: Routes,
) -> Iterator[Mapping[str, Any]]:
    """As ``expected_lines``, of what the preview was asked; its route is ``preview``, as a join has it."""
    answered = {
        line["request_id"]: line
        for line in lines
        if (line["rollout"], line["route"]) == (routes.rollout, routes.preview)
    }
    for request in checks:
        failure, line = failures.get(request.request_id), answered.get(request.request_id)
        if line is None or (failure is not None and line["status"] < 400):
            yield _failed(request, "preview", routes.rollout, failure or _Failure(503, 0.0))
        else:
            yield {**line, "route": "preview"}


def _failed(request: _Request, route: str, rollout: str, failure: _Failure) -> Mapping[str, Any]:
    return {
        "request_id": request.request_id,
        "event_time": iso(request.event_time),
        "route": route,
        "digest": None,
        "score": None,
        "status": failure.status,
        "latency_ms": failure.latency_ms,
        "features": {},
        "missing": [],
        "stale": [],
        "keys": dict(request.logged),
        "rollout": rollout,
    }
