"""The rows of one request on their way through the server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from sluice.errors import BadArtifact
from sluice.models.request import InferenceRequest
from sluice.models.request_headers import Context
from sluice.predictions.log import PredictionRecord


class Features(NamedTuple):
    """What the model gets; each list has an entry a row, and failures are by row, as of ``FeatureRows``."""

    features: list[dict[str, Any]]
    missing: Sequence[Sequence[str]]
    stale: Sequence[Sequence[str]]
    as_of: list[dict[str, datetime]]
    failures: Mapping[int, str] = {}

    def fault(self) -> BadArtifact:
        """Why the first of ``failures`` has no features, and how many more have none."""
        number, reason = next(iter(self.failures.items()))
        more = f" and {len(self.failures) - 1} more" if len(self.failures) > 1 else ""
        return BadArtifact(f"features of instances[{number}]{more}", reason, "mend its transform")

    def require_rows(self, version: str) -> None:
        """Raise where no row has features, and where one has none and the protocol has no word for it."""
        if self.failures and (version == "v2" or len(self.failures) == len(self.features)):
            raise self.fault()


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


def row_id(context: Context, n: int, number: int) -> str:
    """What a log calls one row of a request of ``n``."""
    return context.request_id if n == 1 else f"{context.request_id}#{number}"


def unread_records(
    context: Context, digest: str, n: int, status: int, milliseconds: float
) -> Iterator[PredictionRecord]:
    """What the log keeps of ``n`` rows of a request that got no further than to its status."""
    for number in range(n):
        yield PredictionRecord(
            request_id=row_id(context, n, number),
            event_time=context.event_time,
            route=context.route,
            rollout=context.rollout,
            digest=digest,
            score=None,
            status=status,
            latency_ms=milliseconds,
            features={},
            missing=(),
            stale=(),
            keys={},
        )
