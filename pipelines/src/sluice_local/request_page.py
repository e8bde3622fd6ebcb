"""
A released or packed model on this machine, behind a page on which a person asks it.

    GET /            the page: rows of a run to start from, and what the server says
    /v1/…  /v2/…     the model server, as it is in a pod

Nothing that is asked here is logged or counted as a prediction of an environment.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import uvicorn
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sluice.charts import DARK, LIGHT
from sluice.documents.event_time import iso
from sluice.errors import BadInput
from sluice.evaluation.infra import plain_rows
from sluice.features.manifest import FeatureManifest
from sluice.http_server.server import listen
from sluice.models.bundle import Bundle
from sluice.training.frame import FRAME
from sluice.workspace import Workspace
from sluice_local.processes import READY_TIMEOUT_S, reads_features, start_predictor
from sluice_local.routes import Routes
from sluice_local.splitter import Splitter, send_answer

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

ROWS = 20
"""Rows of a run that the page offers."""
_PROTOCOLS = ("/v1/", "/v2/")
_FRESH = [(b"cache-control", b"no-store")]


class RequestPage:
    """The ASGI application: the page, and before it the model server at ``url``."""

    def __init__(self, page: str, url: str) -> None:
        self._page = page.encode()
        self._gateway = Splitter()
        self._gateway.routes = Routes(stable=url, stable_weight=100)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        if scope["path"].startswith(_PROTOCOLS):
            await self._gateway(scope, receive, send)
        elif scope["path"] == "/" and scope["method"] == "GET":
            await send_answer(send, 200, self._page, b"text/html; charset=utf-8", _FRESH)
        else:
            fix = b"ask / for the page, /v1/ or /v2/ for the model\n"
            await send_answer(send, 404, fix, b"text/plain; charset=utf-8", _FRESH)


def request_names(manifest: FeatureManifest, *, online: bool) -> tuple[str, ...]:
    """What an instance carries: keys and inputs where the server reads features, else every feature."""
    if not online or manifest.service is None:
        return manifest.names
    return (*manifest.entity_keys, *(feature.name for feature in manifest.request_inputs))


def sample_requests(workspace: Workspace, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """
    Rows of the newest run that has these columns, the last ones of its test split, as ``instance``, ``time`` and
    ``label``; one row of nulls where there is no such run.
    """
    runs = sorted((workspace.home / "runs").glob("*/inputs.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in runs:
        frame = Path(json.loads(path.read_text("utf-8"))["frame"]) / FRAME
        if frame.is_file() and {*names, "event_time", "label"} <= set(pl.read_parquet_schema(frame)):
            rows = pl.scan_parquet(frame).filter(pl.col("split") == "test").tail(ROWS).collect()
            return [
                {"instance": instance, "time": iso(row["event_time"]), "label": row["label"]}
                for instance, row in zip(plain_rows(rows.select(names)), rows.iter_rows(named=True), strict=True)
            ]
    return [{"instance": dict.fromkeys(names), "time": None, "label": None}]


def page_of(bundle: Bundle, requests: list[dict[str, Any]]) -> str:
    """The page, self-contained; the same inputs give the same text."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False, "default": str}  # columns in the model's order
    manifest = bundle.manifest
    return environment.get_template("request_page.html.j2").render(
        task=manifest.task,
        digest=bundle.digest,
        variant=manifest.variant,
        path=f"/v1/models/{manifest.task}:predict",
        requests=requests,
        colours=(LIGHT, DARK),
    )


def serve_page(workspace: Workspace, bundle: Bundle, port: int, say: Callable[[str], None]) -> None:
    """
    Serve until Ctrl-C or SIGTERM.

    Args:
        port: 0 takes a free one.
        say: is called once with the page's address.

    Raises:
        BadInput: the port is taken.
        BadArtifact: the model server does not start.
    """
    try:
        listener = listen("127.0.0.1", port)
    except OSError as error:
        raise BadInput(f"--port {port}", f"cannot be listened on ({error.strerror})", "choose another") from error
    server = start_predictor(workspace, None, bundle.manifest.task, bundle.digest, "stable")
    try:
        url = server.wait_ready(READY_TIMEOUT_S)
        names = request_names(bundle.manifest.features, online=reads_features(workspace))
        page = RequestPage(page_of(bundle, sample_requests(workspace, names)), url)
        config = uvicorn.Config(
            page, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=2
        )
        say(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        listener.close()
        server.stop()
