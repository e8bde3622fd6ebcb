"""Train the teacher: Keras 3, class-weighted, stopped early on the tune split, then calibrated."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sluice.arrays import Floats, Floats32
from sluice.content import whole_directory, write_json
from sluice.documents.model import FrozenDocument
from sluice.errors import BadInput
from sluice.models.builder import build
from sluice.models.encoder import fit_encoder
from sluice.tasks.recipe import Recipe
from sluice.training.baselines import baseline_scores
from sluice.training.checkpoint import CheckpointStore
from sluice.training.curve import (
    Curve,
    Epoch,
    LinePrinter,
    auc,
    forward_logits,
    log_loss,
    predicted_logits,
    print_line,
)
from sluice.training.determinism import on_jax, start_distributed, start_jax
from sluice.training.distribution import ONE_DEVICE, Distribution, read_cluster
from sluice.training.frame import EncodedSplit, encoded_splits, prepared_frame, reduced_manifest
from sluice.training.loop import CheckpointPlan, train_in_steps
from sluice.training.steps import optimizer_for

WEIGHTS = "teacher.weights.h5"
_TEMPERATURES = np.geomspace(1.0, 4.0, 61)
"""Never below 1: one calm month after train would make the model too sure of itself in the months that follow."""


class TrainingRecord(FrozenDocument):
    """How the training went."""

    epochs: int
    """Epochs that were run."""
    best_epoch: int
    """The one whose weights were kept, from 1."""
    tune_log_loss: float
    tune_auc: float | None
    temperature: float
    """The logit was divided by it (Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2)."""
    positive_weight: float
    parameters: int
    width: int
    history: tuple[Epoch, ...]


@dataclass(frozen=True)
class TrainingSetup:
    """
    How a training is spread and kept; the default is one device and no checkpoint.

    Attributes:
        distribution: over which devices.
        checkpoints: folder or URL of this training's checkpoint; empty keeps none.
        every: optimizer steps between two checkpoints.
    """

    distribution: Distribution = ONE_DEVICE
    checkpoints: str = ""
    every: int = 200

    def __post_init__(self) -> None:
        """Raises BadInput where no step lies between two checkpoints."""
        if self.every < 1:
            raise BadInput("checkpoint interval", f"{self.every} steps are not one step", "give at least 1")

    @property
    def in_steps(self) -> bool:
        """Whether it takes more than Keras's ``fit``."""
        return bool(self.checkpoints) or self.distribution.kind != "single"

    @property
    def store(self) -> CheckpointStore | None:
        """Where checkpoints are kept."""
        return CheckpointStore(self.checkpoints) if self.checkpoints else None

    @property
    def chief(self) -> bool:
        """Whether this process writes what comes of the training."""
        return self.distribution.kind != "multi_worker" or read_cluster(os.environ).chief


def train_teacher(
    frame_dir: Path,
    recipe: Recipe,
    out: Path,
    baseline_keys: Sequence[str] = (),
    progress: LinePrinter | None = None,
    setup: TrainingSetup = TrainingSetup(),
) -> TrainingRecord:
    """
    Train the recipe's teacher and the baselines.

    Args:
        frame_dir: holds ``frame.parquet`` and ``manifest.json``.
        recipe: what to train.
        out: gets teacher.weights.h5, spec.json, encoder.json, manifest.json, history.json, baselines.parquet; of
            several workers the chief writes it, the others write nothing.
        baseline_keys: columns whose combinations give the rate baseline.
        progress: called with one line an epoch; by default the line goes to standard output.
        setup: devices and checkpoints.

    Raises:
        BadInput: the recipe does not fit the frame, the frame cannot be trained on, or the setup does not fit.
    """
    manifest = reduced_manifest(frame_dir, recipe)
    frame = prepared_frame(frame_dir, recipe)
    encoder = fit_encoder(frame.filter(split="train"), manifest)
    splits = encoded_splits(frame, encoder)
    if not setup.chief:
        return _fit(splits, recipe, _unsaid, setup)[1]
    with whole_directory(out) as directory:
        baseline_scores(frame, splits, encoder, baseline_keys).write_parquet(directory / "baselines.parquet")
        model, record = _fit(splits, recipe, progress or print_line, setup)
        model.save_weights(directory / WEIGHTS)
        spec = {"width": encoder.width, "hidden": list(recipe.teacher), "dropout": recipe.dropout}
        write_json(directory / "spec.json", spec)
        write_json(directory / "encoder.json", encoder.model_dump(mode="json"))
        write_json(directory / "manifest.json", manifest.model_dump(mode="json"))
        write_json(directory / "history.json", record.model_dump(mode="json"))
    if setup.store:
        setup.store.forget()
    return record


def best_temperature(y: Floats32, logits: Floats) -> float:
    """The divisor of the logits that gives the least log loss."""
    losses = [log_loss(y, logits / temperature) for temperature in _TEMPERATURES]
    return float(_TEMPERATURES[int(np.argmin(losses))])


def _unsaid(_line: str) -> None:
    """The chief says it."""


def _fit(
    splits: dict[str, EncodedSplit], recipe: Recipe, progress: LinePrinter, setup: TrainingSetup
) -> tuple[Any, TrainingRecord]:
    train, tune = splits["train"], splits["tune"]
    weight = float((1 - train.y.mean()) / train.y.mean())
    shift = float(np.log(weight))
    predict = forward_logits if setup.in_steps else predicted_logits
    curve = Curve(splits, recipe, shift, progress, predict)
    if setup.in_steps and not on_jax():
        keras, strategy = start_distributed(recipe.seed, setup.distribution)
        train_in_steps(
            keras, strategy, train, recipe, weight, curve, CheckpointPlan(setup.store, setup.every, setup.chief)
        )
    else:
        keras = _start_keras(recipe, setup)
        _fit_whole(keras, train, recipe, weight, curve)
    model = build(keras, train.x.shape[1], recipe.teacher, recipe.dropout)
    model.set_weights(curve.best_weights)
    temperature = best_temperature(tune.y, curve.logits(model, tune.x))
    _calibrate(model, shift, temperature)
    logits = predict(model, tune.x)
    return model, TrainingRecord(
        epochs=len(curve.epochs),
        best_epoch=curve.best_epoch,
        tune_log_loss=log_loss(tune.y, logits),
        tune_auc=auc(tune.y, logits),
        temperature=temperature,
        positive_weight=weight,
        parameters=model.count_params(),
        width=train.x.shape[1],
        history=tuple(curve.epochs),
    )


def _start_keras(recipe: Recipe, setup: TrainingSetup) -> Any:
    if not on_jax():
        return start_distributed(recipe.seed, setup.distribution)[0]
    if setup.checkpoints:
        raise BadInput("checkpoints", "need the TensorFlow backend of Keras", "unset KERAS_BACKEND, or keep none")
    return start_jax(recipe.seed, setup.distribution)


def _fit_whole(keras: Any, train: EncodedSplit, recipe: Recipe, weight: float, curve: Curve) -> None:
    """Keras's own loop: one process, from the first epoch to the last."""
    rows = _shared_equally(keras, len(train.y), recipe)
    model = build(keras, train.x.shape[1], recipe.teacher, recipe.dropout, recipe.precision)
    model.compile(
        optimizer=optimizer_for(keras, recipe, rows),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        steps_per_execution=min(50, max(1, rows // recipe.batch_size)),
        jit_compile=on_jax(),  # else JAX runs operation by operation; TensorFlow's CPU kernels are as fast without
    )
    model.fit(
        train.x[:rows],
        train.y[:rows],
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        class_weight={0: 1.0, 1: weight},
        verbose=0,
        callbacks=[curve.callback(keras)],
    )


def _shared_equally(keras: Any, rows: int, recipe: Recipe) -> int:
    """Rows that fill every device's share of every batch: at most one less than devices are left out."""
    spread = keras.distribution.distribution()
    devices = spread.device_mesh.shape[0] if spread else 1
    if recipe.batch_size % devices:
        rule = f"of {recipe.batch_size} rows cannot be shared equally by {devices} devices"
        raise BadInput("recipe batch_size", rule, "choose a multiple of the devices")
    return rows - rows % devices


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
