"""Distil: a small network that learns from the teacher's raw outputs and from the labels (Hinton et al. 2015)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from sluice.arrays import Floats32
from sluice.models.builder import build
from sluice.tasks.recipe import Recipe
from sluice.training.determinism import on_jax
from sluice.training.objective import Objective, fold, start_from

_FEWEST_EPOCHS, _MOST_EPOCHS = 6, 100
_BATCH = 1024
_FEWEST_STEPS, _FEWEST_IN_ALL = 100, 600
_LEARNING_RATE = 4e-3
_STEPS_PER_EXECUTION = 25


@dataclass(frozen=True, eq=False)
class Lessons:
    """
    What a student learns from.

    Attributes:
        x: encoded rows of train, float32, shape (n, width).
        targets: labels and the teacher's raw outputs, as of ``Objective.lessons``.
        objective: the loss of both.
    """

    x: Floats32
    targets: Floats32
    objective: Objective

    def student(self, keras_namespace: Any, recipe: Recipe) -> Any:
        """The recipe's student before it has learned, in either Keras."""
        return build(keras_namespace, self.x.shape[1], recipe.student, dropout=0.0, outputs=self.objective.outputs)

    def finish(self, model: Any) -> None:
        """Let a student that has learned give raw outputs: in the labels' own unit."""
        if self.objective.has_unit:
            fold(model, self.objective.student_shift, np.full(self.objective.outputs, 1 / self.objective.spread))


def batch_size(rows: int, fewest_steps: int, largest: int) -> int:
    """The largest batch that still gives an epoch ``fewest_steps`` steps, within 32 and ``largest``."""
    return min(largest, max(32, rows // fewest_steps))


def epochs_of(steps: int, fewest: int, fewest_steps: int) -> int:
    """Epochs of ``steps`` each: ``fewest``, or as many more as give ``fewest_steps`` in all, within a hundred."""
    return max(fewest, min(_MOST_EPOCHS, -(-fewest_steps // steps)))


def distil(keras: Any, lessons: Lessons, recipe: Recipe) -> Any:
    """The recipe's student, trained, a Keras 3 model, calibrated as its teacher is; ``Lessons.finish`` is still due."""
    keras.utils.set_random_seed(recipe.seed)
    model = lessons.student(keras, recipe)
    start_from(model, lessons.objective.start)
    batch = batch_size(len(lessons.x), _FEWEST_STEPS, _BATCH)
    steps = max(1, len(lessons.x) // batch)
    epochs = recipe.student_epochs or epochs_of(steps, _FEWEST_EPOCHS, _FEWEST_IN_ALL)
    model.compile(
        optimizer=keras.optimizers.AdamW(
            keras.optimizers.schedules.CosineDecay(_LEARNING_RATE, steps * epochs), weight_decay=0.01
        ),
        loss=partial(lessons.objective.distillation_loss, keras.ops),
        steps_per_execution=min(_STEPS_PER_EXECUTION, steps),
        jit_compile=on_jax(),
    )
    model.fit(lessons.x, lessons.targets, epochs=epochs, batch_size=batch, verbose=0)
    return model
