"""
The student in tf_keras, which tensorflow-model-optimization needs.

Every technique gets a fresh copy: pruning shares layers with the model that it is given and changes its weights.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sluice.compression.student import Lessons, batch_size, epochs_of
from sluice.tasks.recipe import Recipe

_BATCH = 2048
_FEWEST_STEPS = 50
_FEWEST_EPOCHS, _FEWEST_IN_ALL = 2, 100
_LEARNING_RATE = 1e-3
_LEGACY = "TF_USE_LEGACY_KERAS"


def import_tfmot() -> Any:
    """The module tensorflow_model_optimization, without the environment variable that it leaves to child processes."""
    before = os.environ.get(_LEGACY)
    import tensorflow_model_optimization as tfmot

    if before is None:
        os.environ.pop(_LEGACY, None)
    else:
        os.environ[_LEGACY] = before
    return tfmot


def fresh_copy(weights: Path, lessons: Lessons, recipe: Recipe) -> Any:
    """The student in tf_keras, rebuilt from its Keras 3 ``.weights.h5``."""
    import tf_keras

    model = lessons.student(tf_keras, recipe)
    model.load_weights(weights)
    return model


def fine_tune(model: Any, lessons: Lessons, seed: int, callbacks: Sequence[Any] = ()) -> None:
    """Train ``model`` in place for ``steps_in_all`` more on the same lessons, in one order a seed."""
    import keras
    import tf_keras

    tf_keras.utils.set_random_seed(seed)
    model.compile(
        optimizer=tf_keras.optimizers.Adam(_LEARNING_RATE), loss=partial(lessons.objective.distillation_loss, keras.ops)
    )
    epochs, batch = _epochs(lessons), _batch(lessons)
    model.fit(lessons.x, lessons.targets, epochs=epochs, batch_size=batch, verbose=0, callbacks=list(callbacks))


def steps_in_all(lessons: Lessons) -> int:
    """Optimizer steps that ``fine_tune`` takes."""
    return _epochs(lessons) * _steps_an_epoch(lessons)


def _epochs(lessons: Lessons) -> int:
    return epochs_of(_steps_an_epoch(lessons), _FEWEST_EPOCHS, _FEWEST_IN_ALL)


def _steps_an_epoch(lessons: Lessons) -> int:
    return int(np.ceil(len(lessons.x) / _batch(lessons)))


def _batch(lessons: Lessons) -> int:
    return batch_size(len(lessons.x), _FEWEST_STEPS, _BATCH)
