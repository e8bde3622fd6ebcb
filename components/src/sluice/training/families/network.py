"""Families whose model is a Keras network: class-weighted, stopped early on the tune split, then calibrated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel

from sluice.arrays import Floats, Floats32
from sluice.content import write_json
from sluice.errors import BadArtifact, BadInput, SluiceError, one_line
from sluice.features.manifest import FeatureManifest
from sluice.models.encoder import Encoder, fit_encoder
from sluice.tasks.recipe import Recipe, Setting
from sluice.training.curve import Curve, LinePrinter, forward, predicted, tune_auc
from sluice.training.determinism import on_jax, start_distributed, start_jax, start_tensorflow
from sluice.training.export import export_litert, kernel_sparsity
from sluice.training.families.family import SPEC, Family, ModelFile, Teacher, require_one_go, settings_of
from sluice.training.frame import EncodedSplit
from sluice.training.loop import CheckpointPlan, train_in_steps
from sluice.training.objective import Objective, fold, start_from
from sluice.training.setup import TrainingRecord, TrainingSetup, temperature_of
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
"""``build(keras, inputs, spec)`` returns raw outputs, shape (n, inputs.outputs), of a Dense layer that ends it."""


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
        objective: Objective,
        progress: LinePrinter,
        setup: TrainingSetup,
        out: Path | None,
    ) -> TrainingRecord:
        """As of ``Family``; the weights go into ``teacher.weights.h5``."""
        train, tune = splits["train"], splits["tune"]
        predict = forward if setup.in_steps else predicted
        curve = Curve(dict(splits), recipe, objective, progress, predict)
        build = partial(self.model, encoder=encoder, recipe=recipe, objective=objective)
        in_training = partial(build, precision=recipe.precision)
        if setup.in_steps and not on_jax():
            keras, strategy = start_distributed(recipe.seed, setup.distribution)
            plan = CheckpointPlan(setup.store, setup.every, setup.chief)
            train_in_steps(keras, strategy, train, recipe, objective, in_training, curve, plan)
        else:
            keras = _start_keras(recipe, setup)
            _fit_whole(keras, train, recipe, objective, in_training, curve)
        model = build(keras)
        model.set_weights(curve.best_weights)
        temperatures = objective.temperatures(tune.y, curve.raw(model, tune.x))
        fold(model, objective.shift, temperatures / objective.spread)
        if out is not None:
            model.save_weights(out / WEIGHTS)
            write_json(out / SPEC, {"family": recipe.family, "width": encoder.width})
        raw = predict(model, tune.x)
        return TrainingRecord(
            epochs=len(curve.epochs),
            best_epoch=curve.best_epoch,
            loss=objective.loss_name,
            tune_loss=objective.mean_loss(tune.y, raw),
            tune_auc=tune_auc(objective, tune.y, raw),
            temperature=temperature_of(temperatures),
            positive_weight=objective.weight,
            parameters=model.count_params(),
            width=encoder.width,
            history=tuple(curve.epochs),
        )

    def restore(self, directory: Path, recipe: Recipe, encoder: Encoder, objective: Objective) -> Teacher:
        """As of ``Family``."""
        model = self.model(start_tensorflow(recipe.seed), encoder=encoder, recipe=recipe, objective=objective)
        weights = directory / WEIGHTS
        try:
            model.load_weights(weights)
        except (OSError, ValueError, KeyError) as error:
            rule = f"cannot be loaded ({one_line(error)})"
            raise BadArtifact(str(weights), rule, "train the teacher again") from error
        return _Network(model, objective)

    def model(
        self, keras: Any, *, encoder: Encoder, recipe: Recipe, objective: Objective, precision: str = "float32"
    ) -> Any:
        """
        The untrained network.

        Raises:
            BadInput: the function raises, or returns something else than the raw outputs of a Dense layer.
        """
        features = keras.layers.Input((encoder.width,), name="features")
        spec = self._spec(recipe, precision)
        thing = f"recipe {recipe.name!r}: function of family {recipe.family!r}"
        try:
            inputs = _inputs(keras, features, encoder, objective.outputs)
            outputs = self._build(keras, inputs, spec)
            _check_shape(outputs, inputs.outputs, thing)
            model = keras.Model(features, outputs, name="teacher")
        except SluiceError:
            raise
        except Exception as error:  # a user's function may raise anything
            rule = f"raised {type(error).__name__}: {one_line(error, 200)}"
            raise BadInput(thing, rule, "let build(keras, inputs, spec) return raw outputs") from error
        _check_end(keras, model, outputs, thing)
        start_from(model, objective.start)
        return model

    def _spec(self, recipe: Recipe, precision: str) -> NetworkSpec:
        settings = settings_of(self._settings, recipe).model_dump() if self._settings else recipe.settings
        return NetworkSpec(recipe.teacher, recipe.dropout, precision, settings)


class _Network:
    """A trained network, as students learn from it."""

    def __init__(self, model: Any, objective: Objective) -> None:
        self._model, self._objective = model, objective

    def raw(self, x: Floats32) -> Floats:
        return predicted(self._model, x)

    def model_file(self, rows: Floats32, name: str) -> ModelFile:
        data = export_litert(self._model, rows, name, self._objective)
        return ModelFile("litert", data, self._model.count_params(), kernel_sparsity(self._model))


def _inputs(keras: Any, features: Any, encoder: Encoder, outputs: int) -> NetworkInputs:
    categories = {name: features[:, place] for name, place in encoder.one_hot.items()}
    blocks: dict[str, dict[str, Any]] = {"tensor": {}, "text": {}}
    for place, code in encoder.blocks:
        # Not a layer of Reshape: it would ask for the number of rows, which LiteRT then knows only once it has run.
        blocks.setdefault(code.kind, {})[code.name] = keras.ops.reshape(features[:, place], (-1, *code.row_shape))
    numbers = features[:, : encoder.numbers]
    return NetworkInputs(features, numbers, categories, outputs, blocks["tensor"], blocks["text"])


def _check_shape(outputs: Any, due: int, thing: str) -> None:
    shape = getattr(outputs, "shape", None)
    if shape is None or tuple(shape) != (None, due):
        answer = f"shape {tuple(shape)}" if shape is not None else f"a {type(outputs).__name__}"
        rule = f"returned {answer}, need a Keras tensor of shape (None, {due})"
        raise BadInput(thing, rule, "end it with keras.layers.Dense(inputs.outputs)")


def _check_end(keras: Any, model: Any, outputs: Any, thing: str) -> None:
    """The class weights' shift, the labels' unit and the temperature are folded into the last layer."""
    last = model.layers[-1]
    dense = isinstance(last, keras.layers.Dense) and last.use_bias and last.output is outputs
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
    keras: Any, train: EncodedSplit, recipe: Recipe, objective: Objective, build: Callable[[Any], Any], curve: Curve
) -> None:
    """Keras's own loop: one process, from the first epoch to the last."""
    rows = _shared_equally(keras, len(train.y), recipe)
    model = build(keras)
    model.compile(
        optimizer=optimizer_for(keras, recipe, rows),
        loss=partial(objective.network_loss, keras.ops),
        steps_per_execution=min(50, max(1, rows // recipe.batch_size)),
        jit_compile=on_jax(),  # else JAX runs operation by operation; TensorFlow's CPU kernels are as fast without
    )
    weights = objective.row_weights(train.y)
    model.fit(
        train.x[:rows],
        objective.in_units(train.y[:rows]),
        sample_weight=None if weights is None else weights[:rows],
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
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
