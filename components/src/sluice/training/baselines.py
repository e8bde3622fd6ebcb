"""What a model has to beat: a constant, a constant by group, and a linear model and trees on its features."""

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
from sluice.targets.registry import BINARY
from sluice.training.boosting import USUAL, margins, unwatched_trees
from sluice.training.frame import EncodedSplit, encoded_splits
from sluice.training.loss_forms import LOSS_FORMS, LossForm
from sluice.training.objective import objective_of

_MOST_TREES, _FEWEST_ROUNDS = 1000, 10
"""Each round grows a tree for every output: with many classes there are fewer rounds, or a baseline takes hours."""


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
        target: what the labels are.

    Returns:
        example_id, split, and columns of predictions ``prior``, ``rate`` (where there are keys), a linear model by the
        target's loss (``logistic`` or ``linear``), and ``trees``: boosted trees as they are where nobody tunes them.
    """
    table = plain_baselines(frame, keys, target)
    form = LOSS_FORMS[target.training_loss.name]
    for name, learn in ((form.linear_name, _linear), ("trees", partial(_trees, seed=seed))):
        learned = [(ids, _rounded(target.link(raw), form)) for ids, raw in learn(frame, manifest, target)]
        parts = [pl.DataFrame([ids, prediction_column(name, predictions)]) for ids, predictions in learned]
        table = table.join(pl.concat(parts), on="example_id", how="left", maintain_order="left", validate="1:1")
    return table


def plain_baselines(frame: pl.DataFrame, keys: Sequence[str], target: TargetKind = BINARY) -> pl.DataFrame:
    """
    What the labels of split train say without any model, for the rows of tune and test.

    Args:
        frame: the prepared frame.
        keys: columns whose combinations give ``rate``; none leaves that baseline out.
        target: what the labels are.

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


def _linear(frame: pl.DataFrame, manifest: FeatureManifest, target: TargetKind) -> list[tuple[pl.Series, Floats]]:
    encoder = fit_encoder(frame.filter(split="train"), manifest)
    splits = encoded_splits(frame, encoder, target)
    train = splits.pop("train")
    objective = objective_of(target, train.y)
    coefficients = objective.linear(_design(train, encoder), train.y)
    return [(part.ids, objective.student_raw(_design(part, encoder) @ coefficients)) for part in splits.values()]


def _trees(
    frame: pl.DataFrame, manifest: FeatureManifest, target: TargetKind, seed: int
) -> list[tuple[pl.Series, Floats]]:
    splits = encoded_splits(frame, fit_raw_encoder(frame.filter(split="train"), manifest), target)
    objective = objective_of(target, splits["train"].y)
    rounds = max(_FEWEST_ROUNDS, min(USUAL.rounds, _MOST_TREES // objective.outputs))
    settings = USUAL.model_copy(update={"rounds": rounds})
    booster = unwatched_trees(splits["train"], settings, objective, seed)
    return [(splits[name].ids, margins(booster, splits[name].x)) for name in splits if name != "train"]


def _rounded(predictions: Floats, form: LossForm) -> Floats:
    """Without the bits that differ from machine to machine; what is above 0 stays above, and small values differ."""
    power = 0 if form.shares else min(0, int(np.frexp(np.abs(predictions).max())[1]))
    rounded = np.ldexp(np.ldexp(predictions, -power).round(12), power)
    return np.where(rounded == 0, predictions, rounded)


def _design(part: EncodedSplit, encoder: Encoder) -> Floats:
    return np.column_stack([part.x[:, encoder.plain].astype(np.float64), np.ones(len(part.y))])
