"""The learning curves, and what is decided by them: which weights are kept, and when training stops."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
from pydantic import AliasChoices, Field

from sluice.arrays import Floats, Floats32
from sluice.documents.model import FrozenDocument
from sluice.tasks.recipe import Recipe
from sluice.training.frame import EncodedSplit
from sluice.training.objective import Objective

_PATIENCE = 3
_SAMPLE = 8192
"""Rows of train that the learning curve is drawn on."""
_BATCH = 8192

LinePrinter = Callable[[str], None]
Predict = Callable[[Any, Floats32], Floats]


class Epoch(FrozenDocument):
    """One point of the learning curves; both losses are the target's, without class weights."""

    epoch: int
    train_loss: float = Field(validation_alias=AliasChoices("train_loss", "train_log_loss"))
    tune_loss: float = Field(validation_alias=AliasChoices("tune_loss", "tune_log_loss"))
    """Documents of before know log loss alone, and call both so."""
    tune_auc: float | None = None
    """``None`` where the target has none, or the split one class only."""


def print_line(line: str) -> None:
    """A line of progress to standard output, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def auc(y: Floats32, logits: Floats) -> float | None:
    """Area under the ROC curve by mean ranks (Mann-Whitney); ``None`` where there is one class only."""
    positives = int(y.sum())
    pairs = positives * (len(y) - positives)
    ranks = pl.Series(logits).rank("average").to_numpy()[y == 1]
    return float(ranks.sum() - positives * (positives + 1) / 2) / pairs if pairs else None


def tune_auc(objective: Objective, y: Floats32, raw: Floats) -> float | None:
    """The AUC of raw outputs (n, outputs) where the target has one."""
    return auc(y, raw[:, 0]) if objective.ranks else None


def predicted(model: Any, x: Floats32) -> Floats:
    """Outputs of a Keras model for encoded rows, float64, shape (n, outputs)."""
    return np.asarray(model.predict(x, batch_size=_BATCH, verbose=0), np.float64)


def forward(model: Any, x: Floats32) -> Floats:
    """The same by plain calls, which leave a strategy's devices and its other workers alone."""
    parts = [np.asarray(model(x[at : at + _BATCH], training=False)) for at in range(0, len(x), _BATCH)]
    return np.concatenate(parts).astype(np.float64)


class Curve:
    """Follows a training: one point an epoch, the best weights so far, and when to stop."""

    def __init__(
        self,
        splits: dict[str, EncodedSplit],
        recipe: Recipe,
        objective: Objective,
        progress: LinePrinter,
        predict: Predict = predicted,
    ) -> None:
        self.epochs: list[Epoch] = []
        self.best_epoch = 0
        self.best_weights: list[Floats32] = []
        self._train, self._tune = splits["train"], splits["tune"]
        self._sample = np.unique(np.linspace(0, len(self._train.y) - 1, _SAMPLE).astype(np.intp))
        self._recipe, self._objective, self._progress, self._predict = recipe, objective, progress, predict

    @property
    def flat(self) -> bool:
        """Whether the last epochs brought nothing: time to stop."""
        return len(self.epochs) - self.best_epoch >= _PATIENCE

    def raw(self, model: Any, x: Floats32) -> Floats:
        """Raw outputs without the effect of the class weights, (n, outputs)."""
        return self._objective.raw(self._predict(model, x))

    def callback(self, keras: Any) -> Any:
        """A Keras callback that adds a point at the end of each epoch."""

        def end_of_epoch(_number: int, _logs: Any) -> None:
            self.add(callback.model)
            callback.model.stop_training = self.flat

        callback = keras.callbacks.LambdaCallback(on_epoch_end=end_of_epoch)
        return callback

    def add(self, model: Any) -> None:
        """Measure the model at the end of an epoch."""
        tune = self.raw(model, self._tune.x)
        train = self.raw(model, self._train.x[self._sample])
        point = Epoch(
            epoch=len(self.epochs) + 1,
            train_loss=self._objective.mean_loss(self._train.y[self._sample], train),
            tune_loss=self._objective.mean_loss(self._tune.y, tune),
            tune_auc=tune_auc(self._objective, self._tune.y, tune),
        )
        if not self.epochs or point.tune_loss < min(epoch.tune_loss for epoch in self.epochs):
            self.best_epoch, self.best_weights = point.epoch, model.get_weights()
        self.epochs.append(point)
        ranking = "" if point.tune_auc is None else f"  AUC tune {point.tune_auc:.4f}"
        self._progress(
            f"epoch {point.epoch}/{self._recipe.epochs}  {self._objective.loss_title} train {point.train_loss:.4f} "
            f"tune {point.tune_loss:.4f}{ranking}"
        )
