"""Where a frame breaks its schema. Pure: a frame, a schema and perhaps a baseline in; anomalies out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

import polars as pl

from sluice.data.divergence import FeatureProfile, divergence
from sluice.data.schema import FeatureRule, Schema
from sluice.data.span import type_name
from sluice.documents.event_time import iso
from sluice.documents.model import FrozenDocument

SPAN = "(span)"
"""Stands for the feature in an anomaly of the whole span."""


class Anomaly(FrozenDocument):
    """One broken rule."""

    feature: str
    rule: str
    """missing_column, unknown_column, type, presence, finite, range, domain, pattern, length, window, order, unique,
    rows, classes or divergence."""
    observed: str
    expected: str
    text: str
    """One sentence for people, with the numbers in it."""


def find_anomalies(
    frame: pl.DataFrame,
    schema: Schema,
    baseline: Mapping[str, FeatureProfile] | None,
    *,
    window: tuple[datetime, datetime] | None = None,
) -> tuple[Anomaly, ...]:
    """
    Every rule of the schema that ``frame`` breaks, columns first, then rows, then distances to ``baseline``.

    Args:
        frame: rows with the columns of a span.
        schema: the rules.
        baseline: profiles of the training span; features without one are not compared.
        window: half-open interval that event times must lie in.
    """
    anomalies = list(_column_anomalies(frame, schema))
    sound = _sound(frame, schema)
    for name, rule in sound.items():
        for check in _CHECKS:
            anomalies.extend(check(frame.get_column(name), rule))
    anomalies.extend(_span_anomalies(frame, schema, window, sound))
    anomalies.extend(find_distances(frame, schema, baseline or {}))
    return tuple(anomalies)


def _sound(frame: pl.DataFrame, schema: Schema) -> dict[str, FeatureRule]:
    """Rules of the columns that are there with the right type: the others cannot be looked at."""
    return {
        name: rule
        for name, rule in schema.features.items()
        if name in frame.columns and type_name(frame.schema[name]) == rule.type
    }


def _column_anomalies(frame: pl.DataFrame, schema: Schema) -> Iterator[Anomaly]:
    for name, rule in schema.features.items():
        if name not in frame.columns:
            yield _anomaly(name, "missing_column", "no such column", rule.type, f"Column {name!r} is missing.")
        elif (actual := type_name(frame.schema[name])) != rule.type:
            yield _anomaly(name, "type", actual, rule.type, f"Column {name!r} has type {actual}, not {rule.type}.")
    for name in sorted(set(frame.columns) - schema.features.keys()):
        text = f"Column {name!r} is not in the schema."
        yield _anomaly(name, "unknown_column", type_name(frame.schema[name]), "no such column", text)


def _span_anomalies(
    frame: pl.DataFrame, schema: Schema, window: tuple[datetime, datetime] | None, sound: Mapping[str, FeatureRule]
) -> Iterator[Anomaly]:
    if frame.height < schema.minimum_rows:
        text = f"The span has {frame.height} rows, fewer than {schema.minimum_rows}."
        yield _anomaly(SPAN, "rows", str(frame.height), f"at least {schema.minimum_rows}", text)
    for name in schema.unique:
        if name in frame.columns and (repeated := frame.height - frame.get_column(name).n_unique()):
            text = f"Feature {name!r} repeats earlier values in {repeated} of {frame.height} rows."
            yield _anomaly(name, "unique", f"{repeated} repeated", "no repeated value", text)
    for earlier, later in schema.order:
        if earlier in sound and later in sound:
            yield from _order(frame, earlier, later)
    if window is not None and "event_time" in sound:
        yield from _window(frame.get_column("event_time"), *window)


def _order(frame: pl.DataFrame, earlier: str, later: str) -> Iterator[Anomaly]:
    broken = int((frame.get_column(later) < frame.get_column(earlier)).sum())
    if broken:
        text = f"Feature {later!r} lies before {earlier!r} in {broken} of {frame.height} rows."
        yield _anomaly(later, "order", f"{broken} rows before {earlier}", f"{later} >= {earlier}", text)


def _window(times: pl.Series, start: datetime, end: datetime) -> Iterator[Anomaly]:
    outside = times.filter(~times.is_between(start, end, closed="left"))
    if len(outside):
        expected = f"[{iso(start)}, {iso(end)})"
        yield _outside(times, outside, "window", expected)


def _presence(column: pl.Series, rule: FeatureRule) -> Iterator[Anomaly]:
    if len(column) == 0:
        return
    share = 1 - column.null_count() / len(column)
    if share < rule.presence:
        text = f"Feature {column.name!r} is present in {share:.2%} of {len(column)} rows, below {rule.presence:.2%}."
        yield _anomaly(column.name, "presence", f"{share:.4f}", f"at least {rule.presence:g}", text)


def _finite(column: pl.Series, rule: FeatureRule) -> Iterator[Anomaly]:  # noqa: ARG001  one shape for all checks
    if column.dtype.is_float() and len(outside := column.filter(~column.is_finite())):
        yield _outside(column, outside, "finite", "a finite number")


def _range(column: pl.Series, rule: FeatureRule) -> Iterator[Anomaly]:
    low = rule.minimum if rule.minimum is not None else float("-inf")
    high = rule.maximum if rule.maximum is not None else float("inf")
    if not column.dtype.is_numeric() or (rule.minimum is None and rule.maximum is None):
        return
    values = column.cast(pl.Float64)
    if len(outside := column.filter(values.is_finite() & ~values.is_between(low, high))):
        yield _outside(column, outside, "range", f"[{low:g}, {high:g}]")


def _domain(column: pl.Series, rule: FeatureRule) -> Iterator[Anomaly]:
    present = column.drop_nulls()
    if rule.domain is None or present.is_empty():
        return
    domain = [str(value) for value in rule.domain]
    unseen = present.filter(~present.cast(pl.String).is_in(domain))
    if len(unseen) > rule.unseen_share * len(present):
        listed = ", ".join(domain[:20]) + (", …" if len(domain) > 20 else "")
        expected = f"at most {rule.unseen_share:.2%} outside {{{listed}}}" if rule.unseen_share else f"{{{listed}}}"
        yield _outside(column, unseen, "domain", expected)


def _pattern(column: pl.Series, rule: FeatureRule) -> Iterator[Anomaly]:
    if rule.pattern is not None and column.dtype == pl.String:
        outside = column.filter(~column.str.contains(rule.pattern))
        if len(outside):
            yield _outside(column, outside, "pattern", f"matches {rule.pattern}")


def _length(column: pl.Series, rule: FeatureRule) -> Iterator[Anomaly]:
    if rule.longest is not None and column.dtype == pl.String:
        outside = column.filter(column.str.len_chars() > rule.longest)
        if len(outside):
            yield _outside(column, outside, "length", f"at most {rule.longest} characters")


_CHECKS: tuple[Callable[[pl.Series, FeatureRule], Iterator[Anomaly]], ...] = (
    _presence,
    _finite,
    _range,
    _domain,
    _pattern,
    _length,
)


def find_distances(frame: pl.DataFrame, schema: Schema, baseline: Mapping[str, FeatureProfile]) -> Iterator[Anomaly]:
    """Only the distances: features of ``frame`` that lie further from their baseline than the schema allows."""
    for name, rule in _sound(frame, schema).items():
        if rule.max_divergence is None or name not in baseline or frame.is_empty():
            continue
        distance = divergence(baseline[name], frame.get_column(name))
        if distance > rule.max_divergence:
            limit = f"{rule.max_divergence:g}"
            text = (
                f"Feature {name!r} diverges from the training span by {distance:.4f} (Jensen-Shannon, 0 to 1), "
                f"more than {limit}."
            )
            yield _anomaly(name, "divergence", f"{distance:.4f}", f"at most {limit}", text)


def _outside(column: pl.Series, outside: pl.Series, rule: str, expected: str) -> Anomaly:
    example = outside[0]
    excerpt = iso(example) if isinstance(example, datetime) else repr(example)
    observed = f"{len(outside)} of {len(column)} values, for example {excerpt[:80]}"
    text = f"Feature {column.name!r} breaks its {rule}, {expected}, in {observed}."
    return _anomaly(column.name, rule, observed, expected, text)


def _anomaly(feature: str, rule: str, observed: str, expected: str, text: str) -> Anomaly:
    return Anomaly(feature=feature, rule=rule, observed=observed, expected=expected, text=text)
