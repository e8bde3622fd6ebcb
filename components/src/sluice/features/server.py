"""
Feast's feature server with three changes: it only reads, it honours each view's time to live, and it has the bounds and
the end of ``sluice.http_server``.

    python -m sluice.features.server --feature_repo /app/feature_repo --host 0.0.0.0 --port 6566

``POST /get-online-features`` and ``GET /health`` are Feast's; ``GET /metrics`` has the ages of
``sluice.features.freshness``. Feast's routes that write or materialize need no credentials and are left out. For what
a model server reads in its own process this is one hop more; it is there for everybody else.

Environment: see ``sluice.features.cluster``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sluice.errors import SluiceError

if TYPE_CHECKING:
    from fastapi import FastAPI
    from feast import FeatureStore
    from starlette.requests import Request
    from starlette.responses import Response

_ROUTES = {"/get-online-features", "/health"}
_GRACE_S = 10
_A_YEAR = 365 * 24 * 3600
"""The definitions come with the image: there is nothing to look for again."""


def feature_app(feast: FeatureStore) -> FastAPI:
    """
    The application that the server runs.

    Args:
        feast: a ``cluster_store`` with ``honours_ttl``.
    """
    from feast.feature_server import get_app
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.exposition import CONTENT_TYPE_LATEST
    from starlette.responses import JSONResponse, Response

    from sluice.features.freshness import FeatureFreshness

    app: FastAPI = get_app(feast, registry_ttl_sec=_A_YEAR)
    app.router.routes[:] = [route for route in app.router.routes if getattr(route, "path", "") in _ROUTES]
    registry = CollectorRegistry()
    registry.register(FeatureFreshness(feast, sorted(view.name for view in feast.list_feature_views())))

    def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    async def unavailable(_: Request, error: Exception) -> Response:
        return JSONResponse({"error": str(error)}, status_code=503)

    app.add_route("/metrics", metrics, methods=["GET"])
    app.add_exception_handler(SluiceError, unavailable)
    return app


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM; 2 for anything that is wrong with the input."""
    parser = argparse.ArgumentParser(description="Serve features by Feast's HTTP protocol, for reading.")
    parser.add_argument("--feature_repo", type=Path, required=True, help="folder with the feature definitions")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 inside a pod")
    parser.add_argument("--port", type=int, default=6566)
    options = parser.parse_args(sys.argv[1:] if argv is None else argv)
    from sluice.features.cluster import cluster_store
    from sluice.http_server.boundary import ErrorLines
    from sluice.http_server.server import HttpServer, listen

    try:
        with cluster_store(options.feature_repo, os.environ, honours_ttl=True) as feast:
            server = HttpServer(feature_app(feast), _GRACE_S, ErrorLines("feature server"))
            listener = listen(options.host, options.port)
            asyncio.run(server.serve(sockets=[listener]))
    except OSError as error:
        sys.stderr.write(f"feature server: port {options.port}: {error.strerror}; choose another --port\n")
        return 2
    except SluiceError as error:
        sys.stderr.write(f"feature server: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
