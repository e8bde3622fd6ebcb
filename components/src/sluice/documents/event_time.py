"""Moments of event time as documents spell them: ISO 8601 in UTC, with ``Z``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, Field

from sluice.errors import BadInput


def _on_the_calendar(text: str) -> str:
    datetime.fromisoformat(text)
    return text


Moment = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"), AfterValidator(_on_the_calendar)]

STAMP = "%Y%m%dT%H%M%SZ"
"""The same to the second in names of files and objects, for ``strftime`` and ``strptime`` of a time in UTC."""


def iso(moment: datetime) -> str:
    """``2013-08-01T05:00:00Z``; fractions of a second only where there are some. The time must know its zone."""
    if moment.tzinfo is None:
        raise BadInput(f"time {moment}", "has no time zone", "pass an aware datetime")
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def moment_of(text: str) -> datetime:
    """The aware datetime of an ISO 8601 text."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadInput(f"time {text!r}", "is not ISO 8601", "write it like 2013-08-01T05:00:00Z") from error
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
