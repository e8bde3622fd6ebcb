"""The rows of one request on their way through the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sluice.models.request import InferenceRequest
from sluice.models.request_headers import Context


class Features(NamedTuple):
    """What the model gets; each list has an entry a row, as of ``FeatureRows``."""

    features: list[dict[str, Any]]
    missing: Sequence[Sequence[str]]
    stale: Sequence[Sequence[str]]
    as_of: list[dict[str, datetime]]


@dataclass(frozen=True)
class RequestRows:
    """Requested rows with their ``Features``, ready for the model."""

    request: InferenceRequest
    context: Context
    features: list[dict[str, Any]]
    missing: Sequence[Sequence[str]]
    stale: Sequence[Sequence[str]]
    as_of: list[dict[str, datetime]]
    version: str
    start: float
