"""What a running Prometheus answers, as a dashboard asks it."""

from __future__ import annotations

import http.client
import json
import math
import time
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode


def answer_of(port: int, path: str, **parameters: str) -> Any:
    """The data of an answer of its HTTP API."""
    connection = http.client.HTTPConnection(f"127.0.0.1:{port}", timeout=20)
    connection.request("GET", f"/api/v1/{path}?{urlencode(parameters)}")
    answer = connection.getresponse()
    if answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
        raise ConnectionError("Prometheus listens, and still reads what it kept")
    document = json.loads(answer.read())
    assert document["status"] == "success", document
    return document["data"]


def drawn(port: int, query: str) -> list[float]:
    """All finite numbers that a panel would draw: asked over a range, as Grafana asks."""
    query = query.replace("$__rate_interval", "30s").replace("$environment", ".*").replace("$task", ".*")
    now = time.time()
    answer = answer_of(port, "query_range", query=query, start=f"{now - 90:.0f}", end=f"{now:.0f}", step="1")
    values = [float(value) for series in answer["result"] for _, value in series["values"]]
    return [value for value in values if math.isfinite(value)]
