"""
What a collector may be sent, checked: batches of prediction lines, and labels. Nothing here does I/O.

Whatever a sender writes ends as a frame or as a ``BadRequest`` that names the first thing that is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, Generic, Literal, TypeVar

import orjson
import polars as pl
from pydantic import AfterValidator, ConfigDict, Field, ValidationError

from sluice.content import digest_of_bytes
from sluice.documents.event_time import STAMP, iso
from sluice.documents.model import FrozenDocument, first_violation
from sluice.documents.state import Digest
from sluice.models.request import MAX_TEXT, BadRequest, excerpt
from sluice.predictions.log import window_frame
from sluice.targets.kind import TargetKind
from sluice.targets.registry import BINARY

MAX_BATCH_BYTES = 8 << 20
MAX_LINES = 20_000
MAX_LABELS = 1000
LABEL_SCHEMA: Mapping[str, Any] = {
    "request_id": pl.String,
    "label": pl.Int8,
    "label_time": pl.Datetime("us", "UTC"),
    "received": pl.Datetime("us", "UTC"),
    "reward": pl.Float64,
    "digest": pl.String,
}
"""
Columns of stored labels of yes or no; ``reward`` and ``digest`` are null where the sender did not say them. Of another
kind of target ``label_schema`` says them.
"""


def label_schema(target: TargetKind) -> Mapping[str, Any]:
    """``LABEL_SCHEMA`` with the label of a kind of target."""
    return {**LABEL_SCHEMA, "label": target.label_type}


_MAX_NUMBERS = 1000
_BATCH = re.compile(r"(\d{8}T\d{6}Z)-([0-9a-f]{64})")
Identifier = Annotated[str, Field(min_length=1, max_length=MAX_TEXT + 8)]
"""A request id, with the number of the row where a request has several."""
_Finite = Annotated[float, Field(allow_inf_nan=False)]


def _moment(text: str) -> str:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("has no time zone")
    try:
        moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("is out of range") from error
    return text


Instant = Annotated[str, Field(max_length=40), AfterValidator(_moment)]
"""ISO 8601 with a zone."""
_ContentDigest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
_CellValues = dict[str, float | int | str | bool | None]


class _Strict(FrozenDocument):
    model_config = ConfigDict(strict=True)


class _Line(_Strict):
    """One line of a server's prediction log; ``sluice.predictions.log.PredictionRecord`` writes it."""

    request_id: Identifier
    event_time: Instant
    route: Literal["stable", "candidate", "shadow"]
    rollout: Annotated[str, Field(max_length=MAX_TEXT)]
    digest: Digest
    score: _Finite | None
    status: Annotated[int, Field(ge=100, le=599)]
    latency_ms: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    features: _CellValues
    missing: list[str]
    stale: list[str]
    keys: _CellValues
    as_of: dict[str, Instant] | None = None
    """Servers of before did not say."""
    prediction: Annotated[list[_Finite], Field(min_length=2, max_length=_MAX_NUMBERS)] | None = None
    """Of several numbers; one is the score."""
    contents: dict[_ContentDigest, Annotated[str, Field(max_length=MAX_BATCH_BYTES)]] | None = None
    """Images and texts, by digest."""


_LabelValue = TypeVar("_LabelValue")


class _LabelEntry(_Strict, Generic[_LabelValue]):
    """What became of one request."""

    request_id: Identifier
    label: _LabelValue
    label_time: Instant | None = None
    reward: _Finite | None = None
    digest: Digest | None = None


class _Labels(_Strict, Generic[_LabelValue]):
    labels: Annotated[list[_LabelEntry[_LabelValue]], Field(min_length=1, max_length=MAX_LABELS)]


_JSON_TYPES: Mapping[str, Any] = {
    "Int8": int,
    "Int64": int,
    "Float64": _Finite,
    "String": str,
    "List(String)": list[str],
}
"""What a label of a column's type is in JSON."""


@cache
def _labels_of(target: TargetKind) -> type[_Labels[Any]]:
    """Labels as a target has them: one of few values, or of a type whose values ``label_fault`` looks at."""
    values = target.domain
    label: Any = _JSON_TYPES[str(target.label_type)] if values is None else Literal[values]
    return _Labels[label]


class Batch(FrozenDocument):
    """A batch by its name: the time at which its sender began it, to the second, and the SHA-256 of its bytes."""

    start: datetime
    sha256: str

    @classmethod
    def of(cls, start: datetime, body: bytes) -> Batch:
        """The batch of these bytes."""
        whole_second = start.astimezone(UTC).replace(microsecond=0)
        return cls(start=whole_second, sha256=digest_of_bytes(body).removeprefix("sha256:"))

    @classmethod
    def from_name(cls, name: str) -> Batch:
        """From ``<20261121T193000Z>-<sha256 of the body>``; raises ``BadRequest`` for another name."""
        match = _BATCH.fullmatch(name)
        try:
            start = datetime.strptime(match[1], STAMP).replace(tzinfo=UTC) if match else None
        except ValueError:
            start = None
        if match is None or start is None:
            fix = "name it by the time at which it was begun and the SHA-256 of its bytes"
            raise BadRequest(f"batch {excerpt(name)}", "is not <time>-<64 hexadecimal digits>", fix)
        return cls(start=start, sha256=match[2])

    @property
    def name(self) -> str:
        """``<time>-<sha256>``."""
        return f"{self.start.strftime(STAMP)}-{self.sha256}"


def parse_predictions(batch: Batch, body: bytes) -> pl.DataFrame:
    """
    The predictions of a batch: one JSON object a line.

    Returns:
        ``WINDOW_SCHEMA``; a prediction that is in it twice counts once.

    Raises:
        BadRequest: the body is not what its name says, or names the first line that is wrong.
    """
    if digest_of_bytes(body) != f"sha256:{batch.sha256}":
        raise BadRequest("body", "is not what the batch's name says", "send the bytes that were digested")
    lines = body.splitlines()
    if not 1 <= len(lines) <= MAX_LINES:
        raise BadRequest("body", f"has {len(lines)} lines", f"send 1 to {MAX_LINES}")
    return window_frame(_line(text, f"line {number}") for number, text in enumerate(lines, 1))


def _line(text: bytes, place: str) -> dict[str, Any]:
    try:
        line = _Line.model_validate(orjson.loads(text))
    except orjson.JSONDecodeError as error:
        raise BadRequest(place, f"is not JSON ({error})", "send one JSON object a line") from error
    except ValidationError as error:
        raise bad_request(place, error, "send what the prediction log writes") from error
    return line.model_dump()


def parse_feedback(body: bytes, received: datetime, target: TargetKind = BINARY) -> pl.DataFrame:
    """
    ``{"labels": [{"request_id", "label", "label_time"?, "reward"?, "digest"?}, …]}`` as ``label_schema``.

    A label without ``label_time`` is known from the moment it is received.

    Raises:
        BadRequest: names the label and the field.
    """
    example = _EXAMPLES[str(target.label_type)]
    try:
        document = _labels_of(target).model_validate(orjson.loads(body))
    except orjson.JSONDecodeError as error:
        raise BadRequest(
            "body", f"is not JSON ({error})", 'send {"labels": [{"request_id": …, "label": 0}]}'
        ) from error
    except ValidationError as error:
        raise bad_request("", error, f'send {{"labels": [{{"request_id": "…", "label": {example}}}]}}') from error
    _require_right([entry.label for entry in document.labels], target)
    rows = [each.model_dump() | {"received": received} for each in document.labels]
    for row in rows:
        row["label_time"] = datetime.fromisoformat(row["label_time"] or iso(received)).astimezone(UTC)
    return pl.DataFrame(rows, schema=dict(label_schema(target)))


_EXAMPLES: Mapping[str, str] = {
    "Int8": "0 or 1",
    "Int64": "a whole number",
    "Float64": "a number",
    "String": '"the name of its class"',
    "List(String)": '["each name that applies"]',
}


def _require_right(labels: list[Any], target: TargetKind) -> None:
    """What a type cannot say; all at once, and one by one only where there is something to name."""
    if _fault(labels, target) is None:
        return
    faults = ((number, label, _fault([label], target)) for number, label in enumerate(labels))
    number, label, fault = next(one for one in faults if one[2])
    raise BadRequest(
        f"labels.{number}.label", f"has {fault}, got {excerpt(label)}", "send it as the task's target says"
    )


def _fault(labels: list[Any], target: TargetKind) -> str | None:
    try:
        fault = target.label_fault(pl.Series(labels, dtype=target.label_type))
    except (TypeError, OverflowError):
        return f"what no {target.label_type} is"
    return fault.rule if fault else None


def bad_request(place: str, error: ValidationError, fix: str) -> BadRequest:
    """The first thing that is wrong, in a line."""
    key, rule, value = first_violation(error)
    thing = ": ".join(part for part in (place, key) if part) or "body"
    return BadRequest(thing[:120], f"{rule[:120]}, got {excerpt(value)}", fix)


def labels_at(labels: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """
    The label of each request as it was known at ``now``.

    The newest by ``label_time`` counts, so a correction replaces what it corrects; of two for the same moment the one
    that was received first. Sent twice, a label counts once.

    Returns:
        example_id (= request_id), label, label_time; sorted by example_id.
    """
    known = labels.filter(pl.col("label_time") <= now)
    by_text = pl.col("label").cast(pl.List(pl.String)).list.join("\n") if _is_list(known) else pl.col("label")
    newest = known.sort("label_time", "received", by_text, descending=[True, False, False])
    first = newest.unique("request_id", keep="first", maintain_order=True)
    return first.select("label", "label_time", example_id="request_id").sort("example_id")


def _is_list(labels: pl.DataFrame) -> bool:
    return isinstance(labels.schema["label"], pl.List)
