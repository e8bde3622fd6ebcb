"""What a model has to beat: the base rate, a rate by group, a logistic regression on the same features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from sluice.arrays import Floats
from sluice.errors import BadInput
from sluice.models.encoder import Encoder
from sluice.models.runtime import sigmoid
from sluice.training.frame import EncodedSplit

_PRIOR_ROWS = 20.0
"""Weight of the base rate in a group's rate, in rows: small groups lean on it."""
_RIDGE = 1.0
_ITERATIONS = 25
_CONVERGED = 1e-8


def baseline_scores(
    frame: pl.DataFrame, splits: dict[str, EncodedSplit], encoder: Encoder, keys: Sequence[str]
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
    beta = _logistic(train, encoder)
    by_split = pl.concat(
        pl.DataFrame({"example_id": part.ids, "logistic": sigmoid(_design(part, encoder) @ beta).round(12)})
        for name, part in splits.items()
        if name != "train"
    )
    table = rows.select("example_id", "split").with_columns(pl.Series(name, score) for name, score in scores.items())
    return table.join(by_split, on="example_id", how="left", maintain_order="left", validate="1:1")


def _rate(frame: pl.DataFrame, rows: pl.DataFrame, keys: Sequence[str], prior: float) -> Floats:
    for key in keys:
        if key not in frame.columns:
            raise BadInput(f"baseline key {key!r}", "is not a column of the frame", "mend the task's baseline_keys")
    groups = (
        frame.filter(pl.col("split") == "train")
        .group_by(keys)
        .agg(late=pl.col("label").cast(pl.Float64).sum(), n=pl.len())
        .select(*keys, rate=(pl.col("late") + _PRIOR_ROWS * prior) / (pl.col("n") + _PRIOR_ROWS))
    )
    rates = rows.select(keys).join(groups, on=keys, how="left", maintain_order="left", nulls_equal=True)
    return rates["rate"].fill_null(prior).to_numpy()


def _logistic(train: EncodedSplit, encoder: Encoder) -> Floats:
    """
    Coefficients, shape (k + 1,) with the intercept last, of an L2-regularized logistic regression on the plain columns.

    Newton's method (iteratively reweighted least squares; Hastie, Tibshirani, Friedman 2009, section 4.4.1).
    """
    x, y = _design(train, encoder), train.y.astype(np.float64)
    ridge = np.append(np.full(x.shape[1] - 1, _RIDGE), 1e-9)
    beta = np.zeros(x.shape[1])
    for _ in range(_ITERATIONS):
        p = sigmoid(x @ beta)
        gradient = x.T @ (y - p) - ridge * beta
        step = np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + np.diag(ridge), gradient)
        beta = beta + step
        if np.abs(step).max() < _CONVERGED:
            break
    return beta.round(9)  # the bits behind depend on how many threads took part in the sums


def _design(part: EncodedSplit, encoder: Encoder) -> Floats:
    return np.column_stack([part.x[:, encoder.plain].astype(np.float64), np.ones(len(part.y))])
