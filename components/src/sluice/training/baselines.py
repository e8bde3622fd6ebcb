"""What a model has to beat: the base rate, a rate by group, a logistic regression on the same features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from sluice.errors import BadInput
from sluice.models.encoder import Encoder
from sluice.training.frame import Encoded

_PRIOR_ROWS = 20.0
"""Weight of the base rate in a group's rate, in rows: small groups lean on it."""
_ITERATIONS = 50


def baseline_scores(
    frame: pl.DataFrame, splits: dict[str, Encoded], encoder: Encoder, keys: Sequence[str]
) -> pl.DataFrame:
    """
    Probabilities of the baselines for the rows of tune and test, learned from train.

    Args:
        frame: the prepared frame.
        splits: its encoded splits.
        encoder: how they were encoded.
        keys: columns whose combinations give the rate; none leaves that baseline out.

    Returns:
        example_id, split, and float64 columns ``prior``, ``rate`` (where there are keys), ``logistic``.
    """
    train = splits["train"]
    prior = float(train.y.mean())
    rows = frame.filter(pl.col("split") != "train")
    scores = {"prior": np.full(rows.height, prior)}
    if keys:
        scores["rate"] = _rate(frame, rows, keys, prior)
    model = _logistic(train, encoder)
    by_split = pl.concat(
        pl.DataFrame({"example_id": part.ids, "logistic": model.predict_proba(part.x[:, encoder.plain])[:, 1]})
        for name, part in splits.items()
        if name != "train"
    )
    table = rows.select("example_id", "split").with_columns(pl.Series(name, score) for name, score in scores.items())
    return table.join(by_split, on="example_id", how="left", maintain_order="left", validate="1:1")


def _rate(frame: pl.DataFrame, rows: pl.DataFrame, keys: Sequence[str], prior: float) -> npt.NDArray[np.float64]:
    for key in keys:
        if key not in frame.columns:
            raise BadInput(f"baseline key {key!r}", "is not a column of the frame", "mend the task's baseline_keys")
    groups = (
        frame.filter(pl.col("split") == "train")
        .group_by(keys)
        .agg(late=pl.col("label").cast(pl.Float64).sum(), n=pl.len())
        .select(*keys, rate=(pl.col("late") + _PRIOR_ROWS * prior) / (pl.col("n") + _PRIOR_ROWS))
    )
    joined = rows.select(keys).join(groups, on=keys, how="left", maintain_order="left", nulls_equal=True)
    return joined["rate"].fill_null(prior).to_numpy()


def _logistic(train: Encoded, encoder: Encoder) -> Any:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(solver="newton-cholesky", max_iter=_ITERATIONS)  # few columns, many rows: exact and fast
    return model.fit(train.x[:, encoder.plain].astype(np.float64), train.y)
