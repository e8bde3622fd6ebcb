"""Predictions as columns of a file: (n, 1) is a column of numbers, (n, k') one of arrays of k' numbers."""

from __future__ import annotations

import polars as pl

from sluice.arrays import Floats


def predictions_in(column: pl.Series) -> Floats:
    """(n, k') what a column of numbers or of arrays of numbers holds; nulls are NaN."""
    if isinstance(column.dtype, pl.Array):
        width = column.dtype.size
        flat = column.fill_null(pl.lit([None] * width, pl.Array(pl.Float64, width))) if column.null_count() else column
        return predictions_in(flat.explode()).reshape(-1, width)
    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy().reshape(-1, 1)


def prediction_column(name: str, predictions: Floats) -> pl.Series:
    """The column of predictions (n, k') that ``predictions_in`` reads."""
    if predictions.shape[1] == 1:
        return pl.Series(name, predictions[:, 0], pl.Float64)
    return pl.Series(name, predictions, pl.Array(pl.Float64, predictions.shape[1]))
