"""What a model has to beat: the base rate, a rate by group, and a logistic regression and trees on its features."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import polars as pl

from sluice.arrays import Floats, Ints
from sluice.errors import BadInput
from sluice.features.manifest import FeatureManifest
from sluice.models.encoder import Encoder, fit_encoder, fit_raw_encoder
from sluice.targets.kind import TargetKind
from sluice.targets.predictions import prediction_column
from sluice.targets.probabilities import sigmoid
from sluice.targets.registry import BINARY
from sluice.training.boosting import USUAL, boost, margins
from sluice.training.frame import EncodedSplit, encoded_splits

_RIDGE = 1.0
_ITERATIONS = 25
_CONVERGED = 1e-8


def baseline_scores(
    frame: pl.DataFrame, manifest: FeatureManifest, keys: Sequence[str], seed: int, target: TargetKind = BINARY
) -> pl.DataFrame:
    """
    Predictions of the baselines for the rows of tune and test, learned from train.

    Args:
        frame: the prepared frame.
        manifest: the features that may be used.
        keys: columns whose combinations give the rate; none leaves that baseline out.
        seed: of what is drawn while trees are grown: nothing, as they are set.
        target: what is predicted; learned baselines there are of yes and no alone.

    Returns:
        example_id, split, and columns ``prior``, ``rate`` (where there are keys), ``logistic``, ``trees``: a hundred
        boosted trees as they are where nobody tunes them.
    """
    table = plain_baselines(frame, keys, target)
    if target.training_loss != BINARY.training_loss:
        return table
    for name, learn in (("logistic", _logistic_logits), ("trees", partial(_tree_logits, seed=seed))):
        learned = learn(frame, manifest)
        parts = [pl.DataFrame({"example_id": ids, name: sigmoid(logits).round(12)}) for ids, logits in learned]
        table = table.join(pl.concat(parts), on="example_id", how="left", maintain_order="left", validate="1:1")
    return table


def plain_baselines(frame: pl.DataFrame, keys: Sequence[str], target: TargetKind = BINARY) -> pl.DataFrame:
    """
    What the labels of split train say without any model, for the rows of tune and test.

    Args:
        frame: the prepared frame.
        keys: columns whose combinations give ``rate``; none leaves that baseline out.

    Returns:
        example_id, split, ``prior`` (the target's constant) and ``rate`` (its constant by group), as predictions.
    """
    check_keys(frame, keys)
    train, rows = frame.filter(pl.col("split") == "train"), frame.filter(pl.col("split") != "train")
    labels = target.codes(train["label"])
    prior = target.constant(labels)
    scores = {"prior": np.tile(prior, (rows.height, 1))}
    if keys:
        groups = train.select(keys).unique(maintain_order=True).with_row_index("group")
        train_groups, row_groups = (_groups(part, keys, groups) for part in (train, rows))
        by_group = target.by_group(labels, train_groups, groups.height)
        scores["rate"] = np.vstack([by_group, prior])[row_groups]
    columns = (prediction_column(name, score) for name, score in scores.items())
    return rows.select("example_id", "split").with_columns(columns)


def _groups(part: pl.DataFrame, keys: Sequence[str], groups: pl.DataFrame) -> Ints:
    """(n,) the group of each row; one beyond the last where there is none."""
    numbers = part.select(keys).join(groups, on=keys, how="left", maintain_order="left", nulls_equal=True)["group"]
    return numbers.cast(pl.Int64).fill_null(groups.height).to_numpy()


def check_keys(frame: pl.DataFrame, keys: Sequence[str]) -> None:
    """Raise BadInput where a baseline key is no column of the frame."""
    for key in keys:
        if key not in frame.columns:
            raise BadInput(f"baseline key {key!r}", "is not a column of the frame", "mend the task's baseline_keys")


def _logistic_logits(frame: pl.DataFrame, manifest: FeatureManifest) -> list[tuple[pl.Series, Floats]]:
    encoder = fit_encoder(frame.filter(split="train"), manifest)
    splits = encoded_splits(frame, encoder)
    beta = _logistic(splits.pop("train"), encoder)
    return [(part.ids, _design(part, encoder) @ beta) for part in splits.values()]


def _tree_logits(frame: pl.DataFrame, manifest: FeatureManifest, seed: int) -> list[tuple[pl.Series, Floats]]:
    splits = encoded_splits(frame, fit_raw_encoder(frame.filter(split="train"), manifest))
    booster, _ = boost(splits["train"], splits["tune"], USUAL, seed, _unsaid)
    return [(splits[name].ids, margins(booster, splits[name].x)) for name in splits if name != "train"]


def _unsaid(_line: str) -> None:
    """A baseline is no news."""


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
