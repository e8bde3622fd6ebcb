"""The schema of a span: inferred once, edited by people, committed with the task, then enforced."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Literal, Self

import polars as pl
from pydantic import Field, ValidationError, model_validator

from sluice.content import write_json
from sluice.data.divergence import divergence, profile_of
from sluice.data.span import type_name
from sluice.documents.model import FrozenDocument, first_violation
from sluice.errors import BadInput
from sluice.targets.kind import TargetKind
from sluice.targets.registry import BINARY

Order = tuple[tuple[str, str], ...]

_CLOSED_DOMAIN = 64
_WITH_TIME = 0.95
"""Rank correlation with event time from which a number is a clock of its own."""
_NOT_COMPARED = frozenset({"example_id", "event_time", "label_time", "split"})
_WITHOUT_BINS = ("datetime", "date", "time", "list")
_PATTERNS = (r"^[0-9]+$", r"^[A-Z]+$", r"^[A-Z0-9]+$", r"^[A-Za-z0-9_.:|/+-]+$")


class FeatureRule(FrozenDocument):
    """What one column must be. A bound that is ``None`` is not enforced."""

    type: str
    """As ``sluice.data.span.type_name`` calls it."""
    presence: float = Field(default=1.0, ge=0, le=1)
    """Minimum share of rows that are not null."""
    minimum: float | None = None
    maximum: float | None = None
    """Both inclusive. NaN and infinity are anomalies with or without a range."""
    domain: tuple[int | str, ...] | None = None
    """Allowed values, of strings or whole numbers."""
    unseen_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the non-null values that may lie outside ``domain``."""
    pattern: str | None = None
    """Regular expression that every string matches; for open domains."""
    longest: int | None = Field(default=None, ge=0)
    """Maximum length of a string, in characters."""
    max_divergence: float | None = Field(default=None, ge=0, le=1)
    """Maximum Jensen-Shannon divergence of a fresh span against the training span; ``None``: not compared."""
    note: str = ""
    """Why the bounds are what they are."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is above maximum {self.maximum}")
        if self.pattern is not None:
            _require_pattern(self.pattern)
        return self


class Schema(FrozenDocument):
    """What every span of a task must be."""

    format: Literal["sluice.schema/1"] = "sluice.schema/1"
    note: str = ""
    """How the bounds were chosen."""
    minimum_rows: int = Field(default=1, ge=1)
    """Of the span, and of each side of the comparison."""
    unique: tuple[str, ...] = ("example_id",)
    """Columns without repeated values."""
    order: Order = (("event_time", "label_time"),)
    """(earlier, later): in every row that has both, the first is not after the second."""
    features: dict[str, FeatureRule]


def infer_schema(frame: pl.DataFrame, target: TargetKind = BINARY) -> Schema:
    """
    A schema that ``frame`` satisfies, with room: a first draft for people to edit and commit.

    Ranges get a tenth of their width on both sides (none below 0 for values that are never negative), presence 5
    points. Strings of at most 64 values that repeat get a domain, others a pattern and a length. With splits train
    and test in the column ``split``, ``max_divergence`` is twice what lies between them, at least 0.05; without, 0.1.
    A number that goes with event time is not compared. The label's domain is that of its target, where it has one.

    Raises:
        BadInput: the frame has no rows.
    """
    if frame.is_empty():
        raise BadInput("schema", "cannot be inferred from no rows", "give a span with rows")
    features = {column.name: _infer_rule(column, frame, target) for column in frame}
    return Schema(features=features, unique=tuple(name for name in ("example_id",) if name in frame.columns))


def read_schema(path: Path) -> Schema:
    """
    The schema in ``path``.

    Raises:
        BadInput: the file is missing, is not JSON, or has an unknown key or a bound out of range.
    """
    try:
        return Schema.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadInput(str(path), f"cannot be read ({error.strerror})", "infer and commit a schema") from error
    except ValidationError as error:
        key, rule, _ = first_violation(error)
        raise BadInput(str(path), f"is not a schema ({key or 'the file'}: {rule})", "correct that key") from error


def write_schema(schema: Schema, path: Path) -> None:
    """Write the schema as JSON for people: sorted keys, defaults left out."""
    write_json(path, schema.model_dump(mode="json", exclude_defaults=True) | {"format": schema.format})


def _require_pattern(pattern: str) -> None:
    try:
        pl.Series([""]).str.contains(pattern)
    except pl.exceptions.ComputeError as error:
        raise ValueError(f"{pattern!r} is no regular expression") from error


def is_compared(name: str, rule: FeatureRule) -> bool:
    """Whether a distance between spans says something about this column."""
    return name not in _NOT_COMPARED and not rule.type.startswith(_WITHOUT_BINS) and rule.pattern is None


def _infer_rule(column: pl.Series, frame: pl.DataFrame, target: TargetKind) -> FeatureRule:
    present = column.drop_nulls()
    share = len(present) / len(column)
    bounds: dict[str, object] = {
        "type": type_name(column.dtype),
        "presence": 1.0 if share == 1 else max(0.0, math.floor(100 * share - 5) / 100),
    }
    if column.name == "label" and target.domain:
        bounds["domain"] = target.domain
    elif column.dtype == pl.String:
        bounds |= _string_bounds(present)
    elif column.dtype.is_numeric():
        bounds |= _range(present)
    rule = FeatureRule.model_validate(bounds)
    if is_compared(column.name, rule) and not _runs_on(column, frame):
        return rule.model_copy(update={"max_divergence": _infer_distance(column, frame)})
    return rule


def _runs_on(column: pl.Series, frame: pl.DataFrame) -> bool:
    """Whether a number goes with time, as minutes of an epoch or a counter do: two spans of it are never alike."""
    if "event_time" not in frame.columns or not column.dtype.is_numeric():
        return False
    pair = pl.DataFrame({"value": column, "time": frame["event_time"].to_physical()}).drop_nulls()
    rank = pair.select(pl.corr("value", "time", method="spearman")).item()
    return rank is not None and abs(rank) > _WITH_TIME


def _string_bounds(present: pl.Series) -> dict[str, object]:
    distinct = present.unique().sort()
    if len(distinct) <= _CLOSED_DOMAIN and 2 * len(distinct) <= len(present):
        return {"domain": tuple(distinct.to_list())}
    pattern = next((known for known in _PATTERNS if bool(distinct.str.contains(known).all())), None)
    longest = distinct.str.len_chars().max()
    # A pattern also marks an open domain, whose values are no bins to compare.
    return {"longest": longest, "pattern": pattern or "(?s)^.*$"}


def _range(present: pl.Series) -> dict[str, object]:
    finite = present.cast(pl.Float64).to_numpy()
    finite = finite[abs(finite) < math.inf]
    if finite.size == 0:
        return {}
    low, high = float(finite.min()), float(finite.max())
    room = high / 10 - low / 10
    minimum = low - room if low < 0 else max(0.0, low - room)
    if present.dtype.is_integer():
        return {"minimum": float(math.floor(minimum)), "maximum": float(math.ceil(high + room))}
    return {"minimum": max(minimum, -sys.float_info.max), "maximum": min(high + room, sys.float_info.max)}


def _infer_distance(column: pl.Series, frame: pl.DataFrame) -> float:
    if "split" not in frame.columns:
        return 0.1
    train, fresh = (column.filter(frame["split"] == name) for name in ("train", "test"))
    if train.is_empty() or fresh.is_empty():
        return 0.1
    return max(0.05, min(1.0, math.ceil(200 * divergence(profile_of(train), fresh)) / 100))
