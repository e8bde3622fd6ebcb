"""What candidate and production said of each request of the holdout, for ``sluice simulate --replay``."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from sluice.arrays import Floats
from sluice.evaluation.holdout import Holdout
from sluice.targets.predictions import prediction_column
from sluice.targets.yardstick import Yardstick

_SLICE = "slice_"
TARGET_KEY, LOSS_KEY = "sluice.target", "sluice.loss"
"""Of the file's own metadata: the target as JSON, and the name of a loss of the task's own where that is the loss."""


def write_pairs(path: Path, holdout: Holdout, yardstick: Yardstick, production: Floats, candidate: Floats) -> None:
    """
    Write PAIRS: times, label, both scores, and the slices as text columns; the file says what they are of.

    Args:
        holdout: with ``label_time`` and its slices.
        yardstick: of the task; what the file says of it is enough for a replay, but for a loss of the task's own.
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
    metadata = {TARGET_KEY: yardstick.target.model_dump_json()}
    if yardstick.own_loss is not None:
        metadata[LOSS_KEY] = yardstick.own_loss
    pairs = pairs.sort("event_time", "example_id").drop("example_id")
    pairs.write_parquet(path, compression="zstd", metadata=metadata)


def _narrow(predictions: pl.Series) -> pl.Series:
    numbers = predictions.dtype
    return predictions.cast(pl.Array(pl.Float32, numbers.size) if isinstance(numbers, pl.Array) else pl.Float32)
