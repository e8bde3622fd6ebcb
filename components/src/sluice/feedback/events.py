"""
What KServe's payload logger sends (``pkg/logger/worker.go``): CloudEvents over HTTP, binary or structured.

    org.kubeflow.serving.inference.response   what a server answered: scores and the digest, of answers of 200 alone;
                                              a row of such an answer may have failed by itself
    org.kubeflow.serving.inference.request    what it was asked; nothing of it is kept

An event says less than our own servers' log: neither features nor latency, and no failures. Its id is a random one
unless the logger passes the client's on: ``metadataHeaders: [X-Request-Id]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote

import orjson
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, Json, ValidationError, model_validator

from sluice.documents.event_time import iso
from sluice.documents.state import Digest
from sluice.feedback.batch import Identifier, Instant, bad_request
from sluice.models.request import BadRequest
from sluice.predictions.log import WINDOW_SCHEMA, window_frame

RESPONSE = "org.kubeflow.serving.inference.response"
_KIND = "application/cloudevents+json"
_FIX = "send what KServe's logger sends for a server of Sluice"
_Score = Annotated[float, Field(allow_inf_nan=False)]


class _Lax(BaseModel):
    """Others may say more than we read."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class _Event(_Lax):
    specversion: Literal["1.0"]
    id: Identifier
    type: Literal["org.kubeflow.serving.inference.response", "org.kubeflow.serving.inference.request"]
    time: Instant | None = None
    metadata: Json[dict[str, list[str]]] = {}
    data: Any = None


class _Prediction(_Lax):
    score: _Score | None = None
    error: str | None = None
    digest: Digest

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.score is None) == (self.error is None):
            raise ValueError("has neither a score nor an error")
        return self


class _First(_Lax):
    """V1."""

    predictions: Annotated[list[_Prediction], Field(min_length=1)]


class _OutputParameters(_Lax):
    digest: Digest


class _Output(_Lax):
    name: str
    data: list[Any]


class _Second(_Lax):
    """V2."""

    outputs: list[_Output]
    parameters: _OutputParameters


def parse_event(headers: Mapping[str, str], body: bytes, received: datetime) -> pl.DataFrame:
    """
    The predictions of an event, as ``WINDOW_SCHEMA``; none of a request.

    Args:
        headers: names in lower case.

    Raises:
        BadRequest: no such event, or not an answer of one of our servers.
    """
    try:
        event = _Event.model_validate(_attributes(headers, body))
        if event.type != RESPONSE:
            return pl.DataFrame(schema=dict(WINDOW_SCHEMA))
        answers = _answers(event.data)
    except orjson.JSONDecodeError as error:
        raise BadRequest("body", f"is not JSON ({error})", _FIX) from error
    except ValidationError as error:
        raise bad_request("event", error, _FIX) from error
    names = [ids[0] for name, ids in event.metadata.items() if name.lower() == "x-request-id" and ids]
    request_id = names[0] if names else event.id
    moment = event.time or iso(received)
    return window_frame(
        _row(f"{request_id}#{number}" if len(answers) > 1 else request_id, moment, *answer)
        for number, answer in enumerate(answers)
    )


def _attributes(headers: Mapping[str, str], body: bytes) -> Any:
    """Of the structured form the body, of the binary one the headers ``ce-…`` with the body as data."""
    data = orjson.loads(body)
    if headers.get("content-type", "").partition(";")[0].strip().lower() == _KIND:
        return data
    # The binding asks senders to escape quotes in headers; KServe's Go SDK does not.
    attributes = {name.removeprefix("ce-"): unquote(value) for name, value in headers.items() if name.startswith("ce-")}
    return attributes | {"data": data}


def _answers(data: Any) -> list[tuple[float | None, str]]:
    """Score, if there is one, and digest of each row."""
    if isinstance(data, dict) and "predictions" in data:
        return [(one.score, one.digest) for one in _First.model_validate(data).predictions]
    second = _Second.model_validate(data)
    scores = [output.data for output in second.outputs if output.name == "score"]
    if len(scores) != 1 or not all(type(score) in {int, float} for score in scores[0]):
        raise BadRequest("event: data.outputs", "has no numbers called score", _FIX)
    return [(float(score), second.parameters.digest) for score in scores[0]]


def _row(request_id: str, moment: str, score: float | None, digest: str) -> dict[str, Any]:
    nothing: dict[str, Any] = {"missing": [], "stale": [], "features": {}, "keys": {}}
    answer = {"request_id": request_id, "event_time": moment, "score": score, "digest": digest}
    return (
        nothing
        | answer
        | {"route": "stable", "rollout": "", "status": 500 if score is None else 200, "latency_ms": 0.0}
    )
