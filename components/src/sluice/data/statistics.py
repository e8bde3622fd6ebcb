"""Statistics of a span, column by column: what people look at, and what a schema is inferred from."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import numpy as np
import polars as pl

from sluice.data.span import type_name
from sluice.documents.event_time import iso
from sluice.documents.model import FrozenDocument
from sluice.inputs.kind import InputKind

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_TOP = 20
_SQUARES_OVERFLOW = 1e150


class ColumnStatistics(FrozenDocument):
    """One column. What does not apply to its type is ``None`` or empty."""

    dtype: str
    n: int
    nulls: int
    """Nulls; NaN is not one of them."""
    distinct: int
    """Distinct non-null values."""
    not_finite: int = 0
    """NaN and infinite values."""
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    deviation: float | None = None
    """Standard deviation of the finite values (divided by n)."""
    zeros: int | None = None
    quantiles: tuple[float, ...] = ()
    """At ``QUANTILES``; values of the data, not between them."""
    earliest: str | None = None
    latest: str | None = None
    shortest: int | None = None
    longest: int | None = None
    """Lengths of strings, in characters."""
    top: tuple[tuple[str, int], ...] = ()
    """The most frequent values of strings, booleans and integers, with their counts; at most 20."""


class Statistics(FrozenDocument):
    """All columns of a frame."""

    rows: int
    columns: dict[str, ColumnStatistics]


def statistics(frame: pl.DataFrame) -> Statistics:
    """Statistics of every column; works on an empty frame too."""
    return Statistics(rows=frame.height, columns={column.name: column_statistics(column) for column in frame})


def described(frame: pl.DataFrame, inputs: Mapping[str, InputKind]) -> pl.DataFrame:
    """
    A span as it is looked at: in place of an image or a text a column ``<name>.<number>`` for each number of its
    summary.

    Args:
        frame: rows with the columns of a span.
        inputs: the kinds of what a request carries, by name; those that have no column are left out.
    """
    there = {name: kind for name, kind in inputs.items() if name in frame.columns and kind.by_digest}
    columns = [each for name, kind in there.items() for each in kind.described(frame[name])]
    return frame.drop(there).with_columns(columns)


def column_statistics(column: pl.Series) -> ColumnStatistics:
    """Statistics of one column."""
    present = column.drop_nulls()
    base = ColumnStatistics(
        dtype=type_name(column.dtype), n=len(column), nulls=column.null_count(), distinct=present.n_unique()
    )
    if present.is_empty():
        return base
    if column.dtype.is_numeric():
        return base.model_copy(update=_numeric(present) | (_top(present) if column.dtype.is_integer() else {}))
    if isinstance(column.dtype, pl.Datetime):
        bounds = present.dt.replace_time_zone("UTC") if column.dtype.time_zone is None else present
        return base.model_copy(update={"earliest": _moment(bounds.min()), "latest": _moment(bounds.max())})
    if column.dtype == pl.String:
        lengths = present.str.len_chars().to_numpy()
        return base.model_copy(update=_top(present) | {"shortest": int(lengths.min()), "longest": int(lengths.max())})
    return base.model_copy(update=_top(present)) if column.dtype == pl.Boolean else base


def _numeric(present: pl.Series) -> dict[str, object]:
    values = present.cast(pl.Float64).to_numpy()
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return {"not_finite": int(values.size)}
    return {
        "not_finite": int(values.size - finite.size),
        "minimum": float(finite.min()),
        "maximum": float(finite.max()),
        **_moments(finite),
        "zeros": int((finite == 0).sum()),
        "quantiles": tuple(np.quantile(finite, QUANTILES, method="inverted_cdf").tolist()),
    }


def _moments(finite: np.ndarray) -> dict[str, float]:
    """Mean and deviation; in parts of the largest value where their sums would overflow."""
    largest = float(np.abs(finite).max())
    scale = largest if largest > _SQUARES_OVERFLOW else 1.0
    parts = finite / scale
    return {"mean": scale * float(parts.mean()), "deviation": scale * float(parts.std())}


def frequencies(present: pl.Series) -> pl.DataFrame:
    """``value`` and ``count`` of each distinct value, the most frequent first, equally frequent ones by value."""
    return present.alias("value").value_counts().sort(["count", "value"], descending=[True, False])


def _top(present: pl.Series) -> dict[str, object]:
    return {"top": tuple(frequencies(present).head(_TOP).cast({"value": pl.String}).iter_rows())}


def _moment(value: object) -> str:
    return iso(value) if isinstance(value, datetime) else str(value)
