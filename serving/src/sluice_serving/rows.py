"""The rows of one request on their way through the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from sluice.models.request import InferenceRequest
from sluice.models.request_headers import Context


class Features(NamedTuple):
    """What the model gets; each list has an entry a row, and failures are by row, as of ``FeatureRows``."""

    features: list[dict[str, Any]]
    missing: Sequence[Sequence[str]]
    stale: Sequence[Sequence[str]]
    as_of: list[dict[str, datetime]]
    failures: Mapping[int, str] = {}


@dataclass(frozen=True)
class RequestRows:
    """Requested rows with their ``Features``, ready for the model."""

    request: InferenceRequest
    context: Context
    features: list[dict[str, Any]]
    missing: Sequence[Sequence[str]]
    stale: Sequence[Sequence[str]]
    as_of: list[dict[str, datetime]]
    failures: Mapping[int, str]
    version: str
    start: float
    numbers: Sequence[int]
    """Of the rows in the request."""

    @property
    def sound(self) -> RequestRows:
        """The rows that have features, without those that failed."""
        if not self.failures:
            return self
        numbers = [number for number in range(len(self.features)) if number not in self.failures]
        return replace(
            self,
            features=[self.features[number] for number in numbers],
            missing=[self.missing[number] for number in numbers],
            stale=[self.stale[number] for number in numbers],
            as_of=[self.as_of[number] for number in numbers],
            failures={},
            numbers=numbers,
        )
