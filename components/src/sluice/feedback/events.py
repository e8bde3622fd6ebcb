"""
What KServe's payload logger sends (``pkg/logger/worker.go``): CloudEvents over HTTP, binary or structured.

    org.kubeflow.serving.inference.response   what a server answered: prediction and digest, of answers of 200 alone;
                                              a row of such an answer may have failed by itself
    org.kubeflow.serving.inference.request    what it was asked; nothing of it is kept

An event says less than our own servers' log: neither features nor latency, and no failures. Its id is a random one
unless the logger passes the client's on: ``metadataHeaders: [X-Request-Id]``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import unquote

import orjson
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, Json, ValidationError

from sluice.documents.event_time import iso
from sluice.documents.state import Digest
from sluice.feedback.batch import Identifier, Instant, bad_request
from sluice.models.request import BadRequest
from sluice.predictions.log import WINDOW_SCHEMA, window_frame
from sluice.targets.kind import AnswerField, TargetKind
from sluice.targets.registry import BINARY

RESPONSE = "org.kubeflow.serving.inference.response"
_KIND = "application/cloudevents+json"
_FIX = "send what KServe's logger sends for a server of Sluice"
EventAnswer = tuple[tuple[float, ...] | None, str]
"""A row: the numbers of its prediction, if there is one, and the digest."""


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


class _Prediction(BaseModel):
    """What it says beside these, a target's answers, is kept as it is."""

    model_config = ConfigDict(frozen=True, extra="allow")
    error: str | None = None
    digest: Digest


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


def parse_event(
    headers: Mapping[str, str], body: bytes, received: datetime, target: TargetKind = BINARY
) -> pl.DataFrame:
    """
    The predictions of an event, as ``WINDOW_SCHEMA``; none of a request.

    Args:
        headers: names in lower case.
        target: whose answers the servers give.

    Raises:
        BadRequest: no such event, or not an answer of one of our servers.
    """
    try:
        event = _Event.model_validate(_attributes(headers, body))
        if event.type != RESPONSE:
            return pl.DataFrame(schema=dict(WINDOW_SCHEMA))
        answers = _answers(event.data, target.prediction_answer)
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


def _answers(data: Any, field: AnswerField) -> list[EventAnswer]:
    if isinstance(data, dict) and "predictions" in data:
        return [_of_first(one, field) for one in _First.model_validate(data).predictions]
    second = _Second.model_validate(data)
    columns = [output.data for output in second.outputs if output.name == field.name]
    if len(columns) != 1 or len(columns[0]) % field.size:
        raise BadRequest("event: data.outputs", f"has no numbers called {field.name}", _FIX)
    rows = [columns[0][start : start + field.size] for start in range(0, len(columns[0]), field.size)]
    return [(_numbers(row, field, "event: data.outputs"), second.parameters.digest) for row in rows]


def _of_first(one: _Prediction, field: AnswerField) -> EventAnswer:
    value = (one.model_extra or {}).get(field.name)
    if (value is None) == (one.error is None):
        raise BadRequest("event: data.predictions", f"has neither {field.name} nor an error, or both", _FIX)
    numbers = value if isinstance(value, list) else [value]
    return (None if one.error is not None else _numbers(numbers, field, "event: data.predictions")), one.digest


def _numbers(values: list[Any], field: AnswerField, place: str) -> tuple[float, ...]:
    if len(values) != field.size or not all(type(each) in {int, float} and math.isfinite(each) for each in values):
        few = "a number" if field.size == 1 else f"{field.size} numbers"
        raise BadRequest(place, f"has {field.name} that is not {few}", _FIX)
    return tuple(map(float, values))


def _row(request_id: str, moment: str, numbers: tuple[float, ...] | None, digest: str) -> dict[str, Any]:
    nothing: dict[str, Any] = {"missing": [], "stale": [], "features": {}, "keys": {}}
    several = numbers is not None and len(numbers) > 1
    prediction = {
        "score": None if several or numbers is None else numbers[0],
        "prediction": numbers if several else None,
    }
    answer = {"request_id": request_id, "event_time": moment, "digest": digest, **prediction}
    return (
        nothing
        | answer
        | {"route": "stable", "rollout": "", "status": 500 if numbers is None else 200, "latency_ms": 0.0}
    )
