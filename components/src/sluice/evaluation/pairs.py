"""What candidate and production said of each request of the holdout, for ``sluice simulate --replay``."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from sluice.arrays import Floats
from sluice.evaluation.holdout import Holdout
from sluice.targets.predictions import prediction_column

_SLICE = "slice_"


def write_pairs(path: Path, holdout: Holdout, production: Floats, candidate: Floats) -> None:
    """
    Write PAIRS: times, label, both scores, and the slices as text columns.

    Args:
        holdout: with ``label_time`` and its slices.
        production, candidate: (n, k') predictions, finite.
    """
    scores = {"stable_score": production, "candidate_score": candidate}
    slices = [name for name in holdout.frame.columns if name.startswith(_SLICE)]
    pairs = holdout.frame.select(
        "example_id",
        *("event_time", "label_time", "label"),
        *(_narrow(prediction_column(name, values)) for name, values in scores.items()),
        *(pl.col(name).cast(pl.String).alias(name.removeprefix(_SLICE)) for name in slices),
    )
    pairs.sort("event_time", "example_id").drop("example_id").write_parquet(path, compression="zstd")


def _narrow(predictions: pl.Series) -> pl.Series:
    numbers = predictions.dtype
    return predictions.cast(pl.Array(pl.Float32, numbers.size) if isinstance(numbers, pl.Array) else pl.Float32)
