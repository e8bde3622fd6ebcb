"""The learning curves, and what is decided by them: which weights are kept, and when training stops."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from sluice.arrays import Floats, Floats32
from sluice.documents.model import FrozenDocument
from sluice.tasks.recipe import Recipe
from sluice.training.frame import EncodedSplit
from sluice.training.objective import log_loss

_PATIENCE = 3
_SAMPLE = 8192
"""Rows of train that the learning curve is drawn on."""
_BATCH = 8192

LinePrinter = Callable[[str], None]
Predict = Callable[[Any, Floats32], Floats]


class Epoch(FrozenDocument):
    """One point of the learning curves; both log losses are of calibrated probabilities, without class weights."""

    epoch: int
    train_log_loss: float
    tune_log_loss: float
    tune_auc: float | None
    """``None`` where the split has one class only."""


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


def predicted_logits(model: Any, x: Floats32) -> Floats:
    """Logits of a Keras model for encoded rows, float64, shape (n,)."""
    return np.asarray(model.predict(x, batch_size=_BATCH, verbose=0)[:, 0], np.float64)


def forward_logits(model: Any, x: Floats32) -> Floats:
    """The same by plain calls, which leave a strategy's devices and its other workers alone."""
    parts = [np.asarray(model(x[at : at + _BATCH], training=False)) for at in range(0, len(x), _BATCH)]
    return np.concatenate(parts)[:, 0].astype(np.float64)


class Curve:
    """Follows a training: one point an epoch, the best weights so far, and when to stop."""

    def __init__(
        self,
        splits: dict[str, EncodedSplit],
        recipe: Recipe,
        shift: float,
        progress: LinePrinter,
        predict: Predict = predicted_logits,
    ) -> None:
        self.epochs: list[Epoch] = []
        self.best_epoch = 0
        self.best_weights: list[Floats32] = []
        self._train, self._tune = splits["train"], splits["tune"]
        self._sample = np.unique(np.linspace(0, len(self._train.y) - 1, _SAMPLE).astype(np.intp))
        self._recipe, self._shift, self._progress, self._predict = recipe, shift, progress, predict

    @property
    def flat(self) -> bool:
        """Whether the last epochs brought nothing: time to stop."""
        return len(self.epochs) - self.best_epoch >= _PATIENCE

    def logits(self, model: Any, x: Floats32) -> Floats:
        """Logits without the effect of the class weights."""
        return self._predict(model, x) - self._shift

    def callback(self, keras: Any) -> Any:
        """A Keras callback that adds a point at the end of each epoch."""

        def end_of_epoch(_number: int, _logs: Any) -> None:
            self.add(callback.model)
            callback.model.stop_training = self.flat

        callback = keras.callbacks.LambdaCallback(on_epoch_end=end_of_epoch)
        return callback

    def add(self, model: Any) -> None:
        """Measure the model at the end of an epoch."""
        tune = self.logits(model, self._tune.x)
        train = self.logits(model, self._train.x[self._sample])
        point = Epoch(
            epoch=len(self.epochs) + 1,
            train_log_loss=log_loss(self._train.y[self._sample], train),
            tune_log_loss=log_loss(self._tune.y, tune),
            tune_auc=auc(self._tune.y, tune),
        )
        if not self.epochs or point.tune_log_loss < min(epoch.tune_log_loss for epoch in self.epochs):
            self.best_epoch, self.best_weights = point.epoch, model.get_weights()
        self.epochs.append(point)
        ranking = "" if point.tune_auc is None else f"  AUC tune {point.tune_auc:.4f}"
        self._progress(
            f"epoch {point.epoch}/{self._recipe.epochs}  log loss train {point.train_log_loss:.4f} "
            f"tune {point.tune_log_loss:.4f}{ranking}"
        )
