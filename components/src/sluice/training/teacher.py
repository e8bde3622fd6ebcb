"""Train the teacher: Keras 3, class-weighted, stopped early on the tune split, then calibrated."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict

from sluice.content import write_json
from sluice.models.builder import build
from sluice.models.encoder import fit_encoder
from sluice.models.recipe import Recipe
from sluice.training.baselines import baseline_scores
from sluice.training.determinism import start_tensorflow
from sluice.training.frame import Encoded, encoded_splits, prepared_frame, reduced_manifest
from sluice.training.staging import whole_directory

WEIGHTS = "teacher.weights.h5"
_PATIENCE = 3
_SAMPLE = 8192
"""Rows of train that the learning curve is drawn on."""
_TEMPERATURES = np.geomspace(1.0, 4.0, 61)
"""Never below 1: one calm month after train would make the model too sure of itself in the months that follow."""

Logits = npt.NDArray[np.float64]
Progress = Callable[[str], None]


class Epoch(BaseModel):
    """One point of the learning curves; both log losses are of calibrated probabilities, without class weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: int
    train_log_loss: float
    tune_log_loss: float
    tune_auc: float


class TrainingRecord(BaseModel):
    """How the training went."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int
    """Epochs that were run."""
    best_epoch: int
    """The one whose weights were kept, from 1."""
    tune_log_loss: float
    tune_auc: float
    temperature: float
    """The logit was divided by it (Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2)."""
    positive_weight: float
    parameters: int
    width: int
    history: tuple[Epoch, ...]


def train_teacher(
    frame_dir: Path,
    recipe: Recipe,
    out: Path,
    baseline_keys: Sequence[str] = (),
    progress: Progress | None = None,
) -> TrainingRecord:
    """
    Train the recipe's teacher and the baselines.

    Args:
        frame_dir: holds ``frame.parquet`` and ``manifest.json``.
        recipe: what to train.
        out: gets teacher.weights.h5, spec.json, encoder.json, manifest.json, history.json, baselines.parquet.
        baseline_keys: columns whose combinations give the rate baseline.
        progress: called with one line an epoch; by default the line goes to standard output.

    Raises:
        BadInput: the recipe does not fit the frame, or the frame cannot be trained on.
    """
    manifest = reduced_manifest(frame_dir, recipe)
    frame = prepared_frame(frame_dir, recipe)
    encoder = fit_encoder(frame.filter(split="train"), manifest)
    splits = encoded_splits(frame, encoder)
    with whole_directory(out) as directory:
        baseline_scores(frame, splits, encoder, baseline_keys).write_parquet(directory / "baselines.parquet")
        model, record = _fit(splits, recipe, progress or _to_stdout)
        model.save_weights(directory / WEIGHTS)
        spec = {"width": encoder.width, "hidden": list(recipe.teacher), "dropout": recipe.dropout}
        write_json(directory / "spec.json", spec)
        write_json(directory / "encoder.json", encoder.model_dump(mode="json"))
        write_json(directory / "manifest.json", manifest.model_dump(mode="json"))
        write_json(directory / "history.json", record.model_dump(mode="json"))
    return record


def log_loss(y: npt.NDArray[np.float32], logits: Logits) -> float:
    """Mean negative log likelihood of labels (n,) under logits (n,), in nats."""
    return float(np.mean(np.logaddexp(0.0, logits) - y * logits))


def best_temperature(y: npt.NDArray[np.float32], logits: Logits) -> float:
    """The divisor of the logits that gives the least log loss."""
    losses = [log_loss(y, logits / temperature) for temperature in _TEMPERATURES]
    return float(_TEMPERATURES[int(np.argmin(losses))])


def _to_stdout(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _fit(splits: dict[str, Encoded], recipe: Recipe, progress: Progress) -> tuple[Any, TrainingRecord]:
    keras = start_tensorflow(recipe.seed)
    train, tune = splits["train"], splits["tune"]
    weight = float((1 - train.y.mean()) / train.y.mean())
    model = build(keras, train.x.shape[1], recipe.teacher, recipe.dropout)
    _compile(keras, model, recipe, len(train.y))
    curve = _Curve(keras, splits, recipe, float(np.log(weight)), progress)
    model.fit(
        train.x,
        train.y,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        class_weight={0: 1.0, 1: weight},
        verbose=0,
        callbacks=[curve.callback],
    )
    model.set_weights(curve.best_weights)
    temperature = best_temperature(tune.y, curve.logits(model, tune.x))
    _calibrate(model, float(np.log(weight)), temperature)
    logits = predicted_logits(model, tune.x)
    return model, TrainingRecord(
        epochs=len(curve.epochs),
        best_epoch=curve.best_epoch,
        tune_log_loss=log_loss(tune.y, logits),
        tune_auc=_auc(tune.y, logits),
        temperature=temperature,
        positive_weight=weight,
        parameters=model.count_params(),
        width=train.x.shape[1],
        history=tuple(curve.epochs),
    )


def predicted_logits(model: Any, x: npt.NDArray[np.float32]) -> Logits:
    """Logits of a Keras model for encoded rows, float64, shape (n,)."""
    return np.asarray(model.predict(x, batch_size=8192, verbose=0)[:, 0], np.float64)


def _compile(keras: Any, model: Any, recipe: Recipe, rows: int) -> None:
    steps = max(1, rows // recipe.batch_size) * recipe.epochs
    rate = keras.optimizers.schedules.CosineDecay(recipe.learning_rate, steps)
    model.compile(
        optimizer=keras.optimizers.AdamW(rate, weight_decay=0.01),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        steps_per_execution=min(50, max(1, rows // recipe.batch_size)),
        jit_compile=False,
    )


def _calibrate(model: Any, shift: float, temperature: float) -> None:
    """
    Fold ``(logit - shift) / temperature`` into the last layer.

    ``shift`` is the log of the positive class's weight: weighting it by w adds log w to the optimal logit (Elkan
    2001, "The Foundations of Cost-Sensitive Learning", theorem 2).
    """
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights(
        [kernel / np.float32(temperature), (bias - np.float32(shift)) / np.float32(temperature)]
    )


def _auc(y: npt.NDArray[np.float32], logits: Logits) -> float:
    """Area under the ROC curve by mean ranks (Mann-Whitney); 0.5 where there is one class only."""
    positives = int(y.sum())
    pairs = positives * (len(y) - positives)
    ranks = pl.Series(logits).rank("average").to_numpy()[y == 1]
    return float(ranks.sum() - positives * (positives + 1) / 2) / pairs if pairs else 0.5


class _Curve:
    """Follows the training: one point an epoch, the best weights so far, and when to stop."""

    def __init__(
        self, keras: Any, splits: dict[str, Encoded], recipe: Recipe, shift: float, progress: Progress
    ) -> None:
        self.epochs: list[Epoch] = []
        self.best_epoch = 0
        self.best_weights: list[npt.NDArray[np.float32]] = []
        self._train, self._tune = splits["train"], splits["tune"]
        self._sample = np.unique(np.linspace(0, len(self._train.y) - 1, _SAMPLE).astype(np.intp))
        self._recipe, self._shift, self._progress = recipe, shift, progress
        self.callback = keras.callbacks.LambdaCallback(on_epoch_end=self._end_of_epoch)

    def logits(self, model: Any, x: npt.NDArray[np.float32]) -> Logits:
        """Logits without the effect of the class weights."""
        return predicted_logits(model, x) - self._shift

    def _end_of_epoch(self, number: int, _logs: Any) -> None:
        model = self.callback.model
        tune = self.logits(model, self._tune.x)
        train = self.logits(model, self._train.x[self._sample])
        point = Epoch(
            epoch=number + 1,
            train_log_loss=log_loss(self._train.y[self._sample], train),
            tune_log_loss=log_loss(self._tune.y, tune),
            tune_auc=_auc(self._tune.y, tune),
        )
        if not self.epochs or point.tune_log_loss < min(epoch.tune_log_loss for epoch in self.epochs):
            self.best_epoch, self.best_weights = point.epoch, model.get_weights()
        self.epochs.append(point)
        self._progress(
            f"epoch {point.epoch}/{self._recipe.epochs}  log loss train {point.train_log_loss:.4f} "
            f"tune {point.tune_log_loss:.4f}  AUC tune {point.tune_auc:.4f}"
        )
        model.stop_training = point.epoch - self.best_epoch >= _PATIENCE
