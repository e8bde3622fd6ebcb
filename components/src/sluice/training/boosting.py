"""
Boosting of trees by XGBoost.

One thread learns unless the settings say more: how sums of gradients are cut into pieces decides their last bits, so
the number of threads is part of the settings and never the machine's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field

from sluice.arrays import Floats, Floats32
from sluice.documents.model import FiniteDocument
from sluice.errors import BadInput, one_line
from sluice.training.absence import absent
from sluice.training.curve import LinePrinter
from sluice.training.frame import EncodedSplit
from sluice.training.loss_forms import labels_of
from sluice.training.objective import Objective

_ROUNDS_A_LINE = 25
"""Rounds between two lines of progress."""


class TreeSettings(FiniteDocument):
    """XGBoost's parameters of these names; the defaults are careful ones, for months that are not like those before."""

    rounds: int = Field(default=800, ge=1, le=20_000)
    """Most trees; fewer where tune stops earlier."""
    patience: int = Field(default=30, ge=0)
    """Rounds without a better loss on tune after which it stops; 0 goes on to the last round."""
    learning_rate: float = Field(default=0.05, gt=0, le=1)
    max_depth: int = Field(default=5, ge=1, le=16)
    min_child_weight: float = Field(default=20.0, ge=0)
    subsample: float = Field(default=0.8, gt=0, le=1)
    colsample_bytree: float = Field(default=0.5, gt=0, le=1)
    reg_lambda: float = Field(default=1.0, ge=0)
    max_bin: int = Field(default=256, ge=2, le=4096)
    threads: int = Field(default=1, ge=1, le=64)
    """Another number is another model in its last bits."""


USUAL = TreeSettings(
    rounds=100, patience=0, learning_rate=0.3, max_depth=6, min_child_weight=1, subsample=1, colsample_bytree=1
)
"""XGBoost's own defaults: what boosted trees are where nobody tunes them."""


def boost(
    train: EncodedSplit,
    tune: EncodedSplit,
    settings: TreeSettings,
    objective: Objective,
    seed: int,
    progress: LinePrinter,
) -> tuple[Any, dict[str, Floats]]:
    """
    Trees until ``tune`` gets no better, and the loss of each round on both splits.

    Args:
        train: rows to learn from, numbers as they are.
        tune: rows to stop by.
        settings: how.
        objective: what is minimized.
        seed: of the draws of rows and columns.
        progress: called with a line every 25 rounds.

    Returns:
        The booster with no trees beyond the best round; losses (rounds,) by split.
    """
    xgboost = xgboost_library()
    at, scale = {"nthread": settings.threads}, _scale(objective)
    rows = xgboost.QuantileDMatrix(train.x, train.y * scale, max_bin=settings.max_bin, **at)
    parts = [
        (rows, "train"),
        (xgboost.QuantileDMatrix(tune.x, tune.y * scale, ref=rows, max_bin=settings.max_bin, **at), "tune"),
    ]
    losses: dict[str, dict[str, list[float]]] = {}
    labels = {"train": labels_of(train.y), "tune": labels_of(tune.y)}
    booster = xgboost.train(
        _parameters_of(settings, objective, seed),
        rows,
        settings.rounds,
        evals=parts,
        evals_result=losses,
        early_stopping_rounds=settings.patience or None,
        callbacks=[_callback(xgboost, settings.rounds, objective, labels, progress)],
        verbose_eval=False,
    )
    best = booster.best_iteration + 1 if settings.patience else settings.rounds
    by_split = {name: _losses(objective, measured, labels[name]) for name, measured in losses.items()}
    return _unscaled(booster[:best], scale), by_split


def unwatched_trees(train: EncodedSplit, settings: TreeSettings, objective: Objective, seed: int) -> Any:
    """
    The booster of ``settings.rounds`` rounds, which no other split stops; arguments as of ``boost``.

    To measure both splits after each round takes about as long as the trees themselves.
    """
    xgboost = xgboost_library()
    scale = _scale(objective)
    rows = xgboost.QuantileDMatrix(train.x, train.y * scale, max_bin=settings.max_bin, nthread=settings.threads)
    return _unscaled(xgboost.train(_parameters_of(settings, objective, seed), rows, settings.rounds), scale)


def margins(booster: Any, x: Floats32) -> Floats:
    """Raw outputs of encoded rows, float64, shape (n, outputs)."""
    return np.asarray(booster.inplace_predict(x, predict_type="margin"), np.float64).reshape(len(x), -1)


def _losses(objective: Objective, measured: Mapping[str, list[float]], labels: Floats) -> Floats:
    """The target's losses from the one thing that XGBoost measures."""
    (values,) = measured.values()
    return objective.form.tree_loss(np.array(values) / _scale(objective), labels)


def _scale(objective: Objective) -> np.float32:
    """
    What labels that are small numbers are multiplied by: a power of two, so that nothing is rounded.

    XGBoost makes no split that gains less than 1e-6 (kRtEps), in squares of the label's unit: of shares of a millionth
    it would learn nothing, without a word.
    """
    return np.float32(2.0 ** max(0, -math.frexp(objective.spread)[1]))


def _unscaled(booster: Any, scale: np.float32) -> Any:
    """The booster whose leaves and base are divided by ``scale``."""
    if scale == 1:
        return booster
    document = json.loads(booster.save_raw("json"))
    learner = document["learner"]
    for tree in learner["gradient_booster"]["model"]["trees"]:
        leaves = (place for place, child in enumerate(tree["left_children"]) if child == -1)
        for leaf in leaves:
            tree["split_conditions"][leaf] /= float(scale)
        tree["base_weights"] = [weight / float(scale) for weight in tree["base_weights"]]
    base = json.loads(learner["learner_model_param"]["base_score"])
    learner["learner_model_param"]["base_score"] = json.dumps([each / float(scale) for each in base])
    return xgboost_library().Booster(model_file=bytearray(json.dumps(document).encode()))


def _parameters_of(settings: TreeSettings, objective: Objective, seed: int) -> dict[str, Any]:
    own = settings.model_dump(exclude={"rounds", "patience", "threads"})
    fixed = {"booster": "gbtree", "tree_method": "hist", "nthread": settings.threads, "verbosity": 0}
    return {**own, **objective.trees, **fixed, "seed": seed % 2**31}


def _callback(
    xgboost: Any, rounds: int, objective: Objective, labels: Mapping[str, Floats], progress: LinePrinter
) -> Any:
    class Lines(xgboost.callback.TrainingCallback):  # type: ignore[misc]
        """Says how far it is."""

        def after_iteration(self, _model: Any, epoch: int, evals_log: Any) -> bool:
            if (epoch + 1) % _ROUNDS_A_LINE == 0 or epoch + 1 == rounds:
                train, tune = (_losses(objective, evals_log[name], labels[name])[-1] for name in ("train", "tune"))
                progress(f"round {epoch + 1}/{rounds}  {objective.loss_title} train {train:.4f} tune {tune:.4f}")
            return False

    return Lines()


def xgboost_library() -> Any:
    """The module xgboost, imported; raises BadInput where it is not installed."""
    try:
        with absent("dask", "sklearn"):
            import xgboost
    except ImportError as error:
        raise BadInput(
            "package 'xgboost'", f"cannot be imported ({one_line(error)})", "install sluice[steps]"
        ) from error
    return xgboost
