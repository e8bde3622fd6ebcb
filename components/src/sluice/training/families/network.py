"""Families whose model is a Keras network: class-weighted, stopped early on the tune split, then calibrated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import BaseModel

from sluice.arrays import Floats, Floats32
from sluice.content import write_json
from sluice.errors import BadArtifact, BadInput, SluiceError, one_line
from sluice.features.manifest import FeatureManifest
from sluice.models.encoder import Encoder, fit_encoder
from sluice.tasks.recipe import Recipe, Setting
from sluice.training.curve import Curve, LinePrinter, auc, forward_logits, predicted_logits
from sluice.training.determinism import on_jax, start_distributed, start_jax, start_tensorflow
from sluice.training.export import export_litert, kernel_sparsity
from sluice.training.families.family import SPEC, Family, ModelFile, Teacher, require_one_go, settings_of
from sluice.training.frame import EncodedSplit
from sluice.training.loop import CheckpointPlan, train_in_steps
from sluice.training.objective import (
    OUTPUTS,
    best_temperature,
    class_weights,
    log_loss,
    network_loss,
    positive_weight,
)
from sluice.training.setup import TrainingRecord, TrainingSetup
from sluice.training.steps import optimizer_for

WEIGHTS = "teacher.weights.h5"


@dataclass(frozen=True)
class NetworkInputs:
    """
    What a network sees, as Keras tensors of float32.

    Attributes:
        everything: all columns of the encoded row, shape (n, width).
        numbers: those of numeric features: standardized values, bins, flags of what is missing; shape (n, k).
        categories: the one-hot code of each string, by the feature's name, shape (n, categories).
        tensors: each image or other tensor, by the feature's name, moved to 0 … 1, shape (n, *its own).
        texts: the counts of each text's n-grams, by the feature's name, shape (n, buckets).
        outputs: columns of the tensor to be returned.
    """

    everything: Any
    numbers: Any
    categories: Mapping[str, Any]
    outputs: int
    tensors: Mapping[str, Any] = field(default_factory=dict)
    texts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NetworkSpec:
    """
    What the recipe says of a network.

    Attributes:
        hidden: units of its hidden layers (``recipe.teacher``).
        dropout: share of units that are silenced while training.
        precision: what hidden layers compute in, where the family can do another than float32.
        settings: those of the recipe, with the defaults of the ones that it leaves out where they are declared.
    """

    hidden: tuple[int, ...]
    dropout: float
    precision: str
    settings: Mapping[str, Setting]


Build = Callable[[Any, NetworkInputs, NetworkSpec], Any]
"""``build(keras, inputs, spec)`` returns the logits, shape (n, inputs.outputs), of a Dense layer that ends it."""


class NetworkFamily(Family):
    """
    A family by its architecture alone.

    Args:
        build: makes it; see ``Build``.
        settings: declares its settings; without, they reach ``build`` as the recipe has them.
        chain: whether it is one layer after the other, so that the training by steps (checkpoints, several devices) and
            another precision are possible.
    """

    def __init__(self, build: Build, settings: type[BaseModel] | None = None, *, chain: bool = False) -> None:
        self._build, self._settings, self._chain = build, settings, chain

    def check(self, recipe: Recipe, setup: TrainingSetup) -> None:
        """As of ``Family``."""
        self._spec(recipe, recipe.precision)
        if not self._chain:
            require_one_go(recipe, setup, "one device (single), or take family 'mlp'")

    def fit_encoder(self, train: pl.DataFrame, manifest: FeatureManifest) -> Encoder:
        """As of ``Family``."""
        return fit_encoder(train, manifest)

    def train(
        self,
        splits: Mapping[str, EncodedSplit],
        encoder: Encoder,
        recipe: Recipe,
        progress: LinePrinter,
        setup: TrainingSetup,
        out: Path | None,
    ) -> TrainingRecord:
        """As of ``Family``; the weights go into ``teacher.weights.h5``."""
        train, tune = splits["train"], splits["tune"]
        weight = positive_weight(train.y)
        shift = float(np.log(weight))
        predict = forward_logits if setup.in_steps else predicted_logits
        curve = Curve(dict(splits), recipe, shift, progress, predict)
        build = partial(self.model, encoder=encoder, recipe=recipe)
        in_training = partial(build, precision=recipe.precision)
        if setup.in_steps and not on_jax():
            keras, strategy = start_distributed(recipe.seed, setup.distribution)
            plan = CheckpointPlan(setup.store, setup.every, setup.chief)
            train_in_steps(keras, strategy, train, recipe, weight, in_training, curve, plan)
        else:
            keras = _start_keras(recipe, setup)
            _fit_whole(keras, train, recipe, weight, in_training, curve)
        model = build(keras)
        model.set_weights(curve.best_weights)
        temperature = best_temperature(tune.y, curve.logits(model, tune.x))
        _calibrate(model, shift, temperature)
        if out is not None:
            model.save_weights(out / WEIGHTS)
            write_json(out / SPEC, {"family": recipe.family, "width": encoder.width})
        logits = predict(model, tune.x)
        return TrainingRecord(
            epochs=len(curve.epochs),
            best_epoch=curve.best_epoch,
            tune_log_loss=log_loss(tune.y, logits),
            tune_auc=auc(tune.y, logits),
            temperature=temperature,
            positive_weight=weight,
            parameters=model.count_params(),
            width=encoder.width,
            history=tuple(curve.epochs),
        )

    def restore(self, directory: Path, recipe: Recipe, encoder: Encoder) -> Teacher:
        """As of ``Family``."""
        model = self.model(start_tensorflow(recipe.seed), encoder=encoder, recipe=recipe)
        weights = directory / WEIGHTS
        try:
            model.load_weights(weights)
        except (OSError, ValueError, KeyError) as error:
            rule = f"cannot be loaded ({one_line(error)})"
            raise BadArtifact(str(weights), rule, "train the teacher again") from error
        return _Network(model)

    def model(self, keras: Any, *, encoder: Encoder, recipe: Recipe, precision: str = "float32") -> Any:
        """
        The untrained network.

        Raises:
            BadInput: the function raises, or returns something else than the logits of a Dense layer.
        """
        features = keras.layers.Input((encoder.width,), name="features")
        spec = self._spec(recipe, precision)
        thing = f"recipe {recipe.name!r}: function of family {recipe.family!r}"
        try:
            logits = self._build(keras, _inputs(keras, features, encoder), spec)
            _check_shape(logits, thing)
            model = keras.Model(features, logits, name="teacher")
        except SluiceError:
            raise
        except Exception as error:  # a user's function may raise anything
            rule = f"raised {type(error).__name__}: {one_line(error, 200)}"
            raise BadInput(thing, rule, "let build(keras, inputs, spec) return the logits") from error
        _check_end(keras, model, logits, thing)
        return model

    def _spec(self, recipe: Recipe, precision: str) -> NetworkSpec:
        settings = settings_of(self._settings, recipe).model_dump() if self._settings else recipe.settings
        return NetworkSpec(recipe.teacher, recipe.dropout, precision, settings)


class _Network:
    """A trained network, as students learn from it."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def logits(self, x: Floats32) -> Floats:
        return predicted_logits(self._model, x)

    def model_file(self, rows: Floats32, name: str) -> ModelFile:
        data = export_litert(self._model, rows, name)
        return ModelFile("litert", data, self._model.count_params(), kernel_sparsity(self._model))


def _inputs(keras: Any, features: Any, encoder: Encoder) -> NetworkInputs:
    categories = {name: features[:, place] for name, place in encoder.one_hot.items()}
    blocks: dict[str, dict[str, Any]] = {"tensor": {}, "text": {}}
    for place, code in encoder.blocks:
        # Not a layer of Reshape: it would ask for the number of rows, which LiteRT then knows only once it has run.
        blocks.setdefault(code.kind, {})[code.name] = keras.ops.reshape(features[:, place], (-1, *code.row_shape))
    numbers = features[:, : encoder.numbers]
    return NetworkInputs(features, numbers, categories, OUTPUTS, blocks["tensor"], blocks["text"])


def _check_shape(logits: Any, thing: str) -> None:
    shape = getattr(logits, "shape", None)
    if shape is None or tuple(shape) != (None, OUTPUTS):
        answer = f"shape {tuple(shape)}" if shape is not None else f"a {type(logits).__name__}"
        rule = f"returned {answer}, need a Keras tensor of shape (None, {OUTPUTS})"
        raise BadInput(thing, rule, "end it with keras.layers.Dense(inputs.outputs)")


def _check_end(keras: Any, model: Any, logits: Any, thing: str) -> None:
    """The class weights' shift and the temperature are folded into the last layer."""
    last = model.layers[-1]
    dense = isinstance(last, keras.layers.Dense) and last.use_bias and last.output is logits
    if not dense or last.activation is not keras.activations.linear:
        rule = f"ends with {type(last).__name__} {last.name!r}, need a Dense with bias and without activation"
        raise BadInput(thing, rule, "end it with keras.layers.Dense(inputs.outputs)")


def _start_keras(recipe: Recipe, setup: TrainingSetup) -> Any:
    if not on_jax():
        return start_distributed(recipe.seed, setup.distribution)[0]
    if setup.checkpoints:
        raise BadInput("checkpoints", "need the TensorFlow backend of Keras", "unset KERAS_BACKEND, or keep none")
    return start_jax(recipe.seed, setup.distribution)


def _fit_whole(
    keras: Any, train: EncodedSplit, recipe: Recipe, weight: float, build: Callable[[Any], Any], curve: Curve
) -> None:
    """Keras's own loop: one process, from the first epoch to the last."""
    rows = _shared_equally(keras, len(train.y), recipe)
    model = build(keras)
    model.compile(
        optimizer=optimizer_for(keras, recipe, rows),
        loss=network_loss(keras),
        steps_per_execution=min(50, max(1, rows // recipe.batch_size)),
        jit_compile=on_jax(),  # else JAX runs operation by operation; TensorFlow's CPU kernels are as fast without
    )
    model.fit(
        train.x[:rows],
        train.y[:rows],
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        class_weight=class_weights(weight),
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

    ``shift`` is the log of the positive class's weight (``sluice.training.objective.positive_weight``).
    """
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights(
        [kernel / np.float32(temperature), (bias - np.float32(shift)) / np.float32(temperature)]
    )
