"""The rows of one request on their way through the server."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sluice.models.request import InferenceRequest
from sluice.models.request_headers import Context


@dataclass(frozen=True)
class RequestRows:
    """Requested rows with their features, ready for the model; each list has an entry a row, as of ``FeatureRows``."""

    request: InferenceRequest
    context: Context
    features: list[dict[str, Any]]
    missing: list[list[str]]
    stale: list[list[str]]
    as_of: list[dict[str, datetime]]
    version: str
    start: float
