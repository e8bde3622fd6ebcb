"""
kserve's model server with a strict front: what a client may send is checked before any model sees it.

What differs from kserve 0.21, and why:

* the two inference endpoints read a bounded body and hand its bytes to the model, which parses and checks them: kserve
  itself answers six of sixteen hostile requests with 500 and takes bodies of any size;
* no repository endpoints (anybody could unload the model), no gRPC (it would bypass the checks);
* no timing middleware and no log lines a request, which cost 40 % of a small model's request;
* bounds on what a connection may send, an answer to whatever is raised, an end without losses: ``sluice.http_server``;
* the address to listen on can be chosen (kserve has 0.0.0.0 built in), and port 0 asks the system for a free one.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import orjson
from fastapi import FastAPI
from kserve import Model, ModelRepository, ModelServer
from kserve.errors import ModelNotFound, ModelNotReady
from kserve.protocol.rest.server import RESTServer, metrics_handler
from kserve.protocol.rest.v1_endpoints import V1Endpoints
from kserve.protocol.rest.v2_endpoints import V2Endpoints
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from sluice.errors import SluiceError
from sluice.http_server.boundary import FAILURE
from sluice.http_server.server import HttpServer
from sluice.models.request import NOBODY_WAITS, BadRequest, check_length
from sluice.models.request_headers import check_envelope
from sluice_serving import tracing
from sluice_serving.answers import Answers

Version = Literal["v1", "v2"]
_GRACE_S = 5
"""For what is under way at the end; with what is then left to ship, less than a pod's grace of 30 s."""

_NOWHERE = {404: "path: is not one of this server's; see GET /v1/models", 405: "method: is none of this path; POST it"}


@dataclass(frozen=True)
class Call:
    """The body of one inference request, not parsed yet."""

    version: Version
    body: bytes


class RequestHandler(Protocol):
    """What a kserve model here needs to be able to do."""

    answers: Answers
    """What its tensors are."""

    def rows(self, version: Version, body: bytes, headers: Mapping[str, str]) -> Any:
        """The checked request with its features."""

    def answer(self, rows: Any) -> bytes:
        """The body of the answer."""

    def refuse(self, headers: Mapping[str, str], error: BadRequest, start: float) -> None:
        """Count and log a request that broke its contract."""

    def fail(self, headers: Mapping[str, str], error: Exception, start: float) -> None:
        """Count a request that failed, unless that was done where it failed."""

    def report(self, error: Exception) -> None:
        """Say that something failed, unless that was done where it failed."""

    def describe(self) -> dict[str, Any]:
        """What is served."""


class SluiceModel(Model):  # type: ignore[misc]  # kserve has no types
    """A predictor as kserve wants it: preprocess checks and reads features, predict scores and logs."""

    def __init__(self, name: str, predictor: RequestHandler) -> None:
        super().__init__(name)
        self.predictor = predictor
        self.ready = True

    async def preprocess(self, payload: Call, headers: Mapping[str, str] | None = None) -> Any:
        """Raises ``BadRequest`` for what a client did wrong."""
        return self.predictor.rows(payload.version, payload.body, headers or {})

    async def predict(self, payload: Any, *_: Any) -> bytes:
        """The body of the answer."""
        return self.predictor.answer(payload)

    def get_input_types(self) -> list[dict[str, Any]]:
        """For ``GET /v2/models/<m>``."""
        return self.predictor.answers.input_tensors()

    def get_output_types(self) -> list[dict[str, Any]]:
        """For ``GET /v2/models/<m>``."""
        return self.predictor.answers.output_tensors()


async def bounded_body(request: Request, headers: Mapping[str, str]) -> bytes:
    """
    The whole body, read in pieces and given up as soon as it is too large.

    Raises:
        BadRequest: status 413 or 415; or it ended early, and nobody is there to be told: 499.
    """
    check_envelope(headers)
    pieces, size = [], 0
    try:
        async for piece in request.stream():
            size += len(piece)
            check_length(size)
            pieces.append(piece)
    except ClientDisconnect as error:
        raise BadRequest("body", "ended early", "send all of it, in time", NOBODY_WAITS, part="envelope") from error
    return b"".join(pieces)


def headers_of(request: Request) -> dict[str, str]:
    """By name; of several the first. Starlette's own mapping looks through all of them for each."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(request.scope["headers"])}


async def refuse(_: Request, error: Exception) -> Response:
    """Answer a ``BadRequest`` with its status; a body that was not read to its end closes the connection."""
    status = error.status if isinstance(error, BadRequest) else 400
    headers = {} if status == 400 else {"connection": "close"}
    return Response(orjson.dumps({"error": str(error)}), status, headers, "application/json")


class StrictRESTServer(RESTServer):  # type: ignore[misc]  # kserve has no types
    """kserve's REST server with fewer, stricter routes on a socket of our choice."""

    def __init__(self, listener: socket.socket, **kwargs: Any) -> None:
        from kserve.model_server import app

        super().__init__(http_port=listener.getsockname()[1], **kwargs)
        self._listener = listener
        self._server = HttpServer(app, _GRACE_S, self._report, self._refused)

    async def infer(self, request: Request) -> Response:
        """``POST /v1/models/<m>:predict`` and ``POST /v2/models/<m>/infer``."""
        name: str = request.path_params["model_name"]
        version: Version = "v1" if request.url.path.startswith("/v1/") else "v2"
        headers, start = headers_of(request), time.perf_counter()
        await self._require_ready(name, headers, start)
        try:
            with tracing.request(headers):
                body = await bounded_body(request, headers)
                answer, _ = await self.dataplane.infer(name, Call(version, body), headers)
        except BadRequest as error:
            self.dataplane.model_registry.get_model(name).predictor.refuse(headers, error, start)
            raise
        except Exception as error:
            self.dataplane.model_registry.get_model(name).predictor.fail(headers, error, start)
            raise
        return Response(answer, media_type="application/json")

    async def _require_ready(self, name: str, headers: Mapping[str, str], start: float) -> None:
        """
        A name that nobody serves here is the caller's, or of the road: refused. A model that is not ready is ours.

        Raises:
            ModelNotFound, ModelNotReady: counted and logged as such.
        """
        try:
            if await self.dataplane.model_ready(name, disable_predictor_health_check=True):
                return
        except ModelNotFound:
            self._count_unknown("model", headers, 404, start)
            raise
        error = ModelNotReady(name)
        for predictor in self._predictors():
            predictor.fail(headers, error, start)
        raise error

    async def _unknown(self, request: Request, error: Exception) -> Response:
        """A path or method that is none; what asks for a score by one is a request that got none."""
        status = error.status_code if isinstance(error, HTTPException) else 404
        if request.method == "POST" and status in _NOWHERE:
            self._count_unknown("path", headers_of(request), status, time.perf_counter())
        return Response(orjson.dumps({"error": _NOWHERE.get(status, "refused")}), status, None, "application/json")

    def _count_unknown(self, thing: str, headers: Mapping[str, str], status: int, start: float) -> None:
        """The name itself becomes no label and no line of a log: it may be anything."""
        for predictor in self._predictors():
            error = BadRequest(thing, "is not served here", "see GET /v1/models", status, part="envelope")
            predictor.refuse(headers, error, start)

    def _descriptions(self) -> list[dict[str, Any]]:
        return [predictor.describe() for predictor in self._predictors()]

    async def describe(self, _: Request) -> Response:
        """``GET /-/sluice``: what this process serves, in its own words; release controllers read it back."""
        documents = self._descriptions()
        return Response(orjson.dumps(documents[0] if documents else {}), media_type="application/json")

    async def serves(self, request: Request) -> Response:
        """``GET /-/serves/<digest>``: 200 when that is what is loaded, else 409; the readiness probe asks it."""
        digest = request.path_params["digest"]
        digests = [each["digest"] for each in self._descriptions()]
        return Response(orjson.dumps({"asked": digest[:200], "served": digests}), 200 if digests == [digest] else 409)

    def _register_endpoints(self, app: FastAPI) -> None:
        first = V1Endpoints(self.dataplane, self.model_repository_extension)
        second = V2Endpoints(self.dataplane, self.model_repository_extension)
        # Plain Starlette routes: FastAPI's dependency solver has nothing to do for them.
        app.add_route("/v1/models/{model_name}:predict", self.infer, methods=["POST"])
        app.add_route("/v2/models/{model_name}/infer", self.infer, methods=["POST"])
        app.add_route("/-/sluice", self.describe, methods=["GET"])
        app.add_route("/-/serves/{digest}", self.serves, methods=["GET"])
        app.add_route("/metrics", metrics_handler, methods=["GET"])
        for path, endpoint in (
            ("/", self.dataplane.live),
            ("/v1/models", first.models),
            ("/v1/models/{model_name}", first.model_ready),
            ("/v2", second.metadata),
            ("/v2/health/live", second.live),
            ("/v2/health/ready", second.ready),
            ("/v2/models", second.models),
            ("/v2/models/{model_name}", second.model_metadata),
            ("/v2/models/{model_name}/ready", second.model_ready),
        ):
            app.add_api_route(path, endpoint, methods=["GET"], response_class=JSONResponse)

    def _add_middlewares(self, app: FastAPI) -> None:
        """Not kserve's only one, which times requests into the log."""

    def _add_exception_handlers(self, app: FastAPI) -> None:
        super()._add_exception_handlers(app)
        app.add_exception_handler(BadRequest, refuse)
        app.add_exception_handler(ModelNotFound, _not_found)
        app.add_exception_handler(HTTPException, self._unknown)
        app.add_exception_handler(SluiceError, _failure)
        app.add_exception_handler(Exception, _failed)

    async def start(self) -> None:
        """Serve on the socket until a signal ends it."""
        self.create_application()
        await self._server.serve(sockets=[self._listener])

    def end(self, *_: Any) -> None:
        """For a signal that comes before uvicorn listens for it."""
        self._server.should_exit = True

    def _predictors(self) -> list[RequestHandler]:
        return [model.predictor for model in self.dataplane.model_registry.get_models().values()]

    def _report(self, error: Exception) -> None:
        for predictor in self._predictors():
            predictor.report(error)

    def _refused(self, status: int, text: str) -> None:
        thing, _, rest = text.partition(": ")
        rule, _, fix = rest.rpartition("; ")
        error = BadRequest(thing, rule, fix, status, part="header")
        for predictor in self._predictors():
            predictor.refuse({}, error, time.perf_counter())


async def _not_found(_: Request, error: Exception) -> Response:
    # kserve's own handler writes a traceback for each wrong name.
    text = f"model: {str(error)[:200]}; see GET /v1/models"
    return Response(orjson.dumps({"error": text}), 404, media_type="application/json")


async def _failure(_: Request, error: Exception) -> Response:
    # kserve's own handler would write a traceback for each, and close a connection that a gateway may be writing to.
    return Response(orjson.dumps({"error": str(error)}), 500, media_type="application/json")


async def _failed(_: Request, __: Exception) -> Response:
    # kserve's own handler tells clients what was raised, in Python's words.
    return Response(FAILURE, 500, media_type="application/json")


class StrictModelServer(ModelServer):  # type: ignore[misc]  # kserve has no types
    """kserve's model server, on one listening socket, with one worker and no gRPC."""

    def __init__(self, listener: socket.socket) -> None:
        super().__init__(
            listener.getsockname()[1],
            workers=1,
            registered_models=ModelRepository(),
            enable_grpc=False,
            enable_latency_logging=False,
        )
        self._listener = listener
        for name in ("kserve", "uvicorn.error"):
            logging.getLogger(name).setLevel(logging.WARNING)
        access = logging.getLogger("uvicorn.access")
        access.handlers, access.propagate = [], False

    def start(self, models: list[Any]) -> None:
        """Serve the models until SIGTERM or SIGINT, then finish what is being answered and return."""
        self._register_and_check_atleast_one_model_is_ready(models)
        server = StrictRESTServer(
            self._listener,
            app="kserve.model_server:app",
            data_plane=self.dataplane,
            model_repository_extension=self.model_repository_extension,
        )
        for sig in (signal.SIGTERM, signal.SIGINT):
            # uvicorn stops on these by itself and raises them again afterwards: by then there is nothing left to do.
            signal.signal(sig, server.end)
        asyncio.run(server.start())
