"""What the headers of a request say, before its body is read."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from sluice.models.request import MAX_TEXT, BadRequest, check_length, excerpt

Route = Literal["stable", "candidate", "shadow"]
ROUTES: Mapping[str, Route] = {"stable": "stable", "candidate": "candidate", "shadow": "shadow"}


@dataclass(frozen=True)
class Context:
    """What the headers say: who asks, when in event time (UTC), and on which side of the rollout."""

    request_id: str
    event_time: datetime
    route: Route
    rollout: str


def parse_context(headers: Mapping[str, str]) -> Context:
    """
    The context of a request; header names in lower case.

    Raises:
        BadRequest: a header that is there but means nothing.
    """
    request_id = headers.get("x-request-id") or uuid.uuid4().hex
    if len(request_id) > MAX_TEXT:
        rule = f"has {len(request_id)} characters, over {MAX_TEXT}"
        raise BadRequest("header x-request-id", rule, "send a shorter id", part="header")
    route = headers.get("x-sluice-route", "stable")
    if route not in ROUTES:
        raise BadRequest("header x-sluice-route", f"is {excerpt(route)}", "leave it to the gateway", part="header")
    rollout = headers.get("x-sluice-rollout", "")[:MAX_TEXT]
    return Context(request_id, _event_time(headers.get("x-sluice-time")), ROUTES[route], rollout)


def context_of_any(headers: Mapping[str, str]) -> Context | None:
    """As ``parse_context``, of headers that may be what was refused; ``None`` where the route means nothing."""
    try:
        return parse_context(headers)
    except BadRequest:
        route = ROUTES.get(headers.get("x-sluice-route", "stable"))
        rollout = headers.get("x-sluice-rollout", "")[:MAX_TEXT]
        return Context(uuid.uuid4().hex, datetime.now(UTC), route, rollout) if route else None


def _event_time(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        fix = "send ISO 8601 with a zone, such as 2013-08-01T05:00:00Z, or leave it out"
        raise BadRequest("header x-sluice-time", f"is {excerpt(text)}, not a moment in time", fix, part="header")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        rule = f"is {excerpt(text)}, out of range"
        raise BadRequest("header x-sluice-time", rule, "send a year of this age", part="header") from error


def check_envelope(headers: Mapping[str, str]) -> None:
    """
    Refuse by the headers alone what is not JSON or too large; header names in lower case.

    Raises:
        BadRequest: status 415 or 413.
    """
    content_type = headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        fix = "send application/json"
        rule = f"is {excerpt(content_type or 'missing')}"
        raise BadRequest("header content-type", rule, fix, status=415, part="envelope")
    length = headers.get("content-length", "")
    if headers.get("inference-header-content-length", length) != length:
        fix = "send all of it as JSON"
        raise BadRequest("body", "has tensors as bytes behind its JSON", fix, status=415, part="envelope")
    if length.isdecimal():
        check_length(int(length))
