"""Counts and moments of columns; equal inputs give equal bits, whatever machine computes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from sluice.arrays import Floats
from sluice.documents.evidence import LABEL_DELAY_BOUNDS_S, LATENCY_BOUNDS_MS, Histogram, LabelDelays, Moments

_DIGITS = 12


def moments(values: pl.Series) -> Moments | None:
    """Of the values that are there; numpy's summation order is fixed, polars' is not."""
    return moments_of(values.drop_nulls().to_numpy().astype(np.float64))


def moments_of(array: Floats) -> Moments | None:
    """n, mean and sample variance of an array of shape (n,); ``None`` of nothing."""
    if array.size == 0:
        return None
    variance = float(array.var(ddof=1)) if array.size > 1 else 0.0
    return Moments(n=int(array.size), mean=rounded(float(array.mean())), variance=rounded(variance))


def moments_by(rows: pl.DataFrame, keys: Sequence[str], column: str) -> dict[tuple[str, ...], Moments]:
    """Moments of a column by the values of text columns, in the order of these; rows with a null are left out."""
    ordered = rows.select(*keys, column).drop_nulls().sort(*keys, maintain_order=True)
    values, start, groups = ordered[column].to_numpy().astype(np.float64), 0, {}
    for *key, n in ordered.group_by(*keys, maintain_order=True).len().iter_rows():
        if group := moments_of(values[start : start + n]):
            groups[tuple(key)] = group
        start += n
    return groups


def histogram(milliseconds: pl.Series) -> Histogram | None:
    """Counts in the latency bins, an observation on a bound in the bin that the bound ends; ``None`` of nothing."""
    array = milliseconds.drop_nulls().to_numpy()
    return Histogram(counts=_binned(array, LATENCY_BOUNDS_MS)) if array.size else None


def label_delays(rows: pl.DataFrame) -> LabelDelays | None:
    """
    From each row's ``event_time`` to its ``label_time``, of rows with a loss; ``None`` where there is none.

    A label that is older than its prediction (two clocks differ) counts as one of no delay.
    """
    labelled = rows.filter(pl.col("loss").is_not_null())
    delay = (pl.col("label_time") - pl.col("event_time")).dt.total_microseconds().clip(0)
    seconds = labelled.select(delay).to_series().to_numpy() / 1e6
    if not seconds.size:
        return None
    return LabelDelays(counts=_binned(seconds, LABEL_DELAY_BOUNDS_S), seconds=rounded(float(seconds.sum())))


def _binned(array: Floats, bounds: Sequence[float]) -> tuple[int, ...]:
    places = np.searchsorted(np.asarray(bounds), array, side="left")
    return tuple(np.bincount(places, minlength=len(bounds) + 1).tolist())


def rounded(value: float) -> float:
    """To 12 digits after the point, so that documents stay short."""
    return round(value, _DIGITS)
