"""Distil: a small network that learns from the teacher's logits and from the labels (Hinton, Vinyals, Dean 2015)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sluice.arrays import Floats32
from sluice.models.builder import build
from sluice.tasks.recipe import Recipe
from sluice.training.determinism import on_jax

_TEMPERATURE = 2.0
_SOFT = 0.9
"""Share of the soft loss."""
_EPOCHS = 6
_BATCH = 1024
_FEWEST_STEPS = 100
_LEARNING_RATE = 4e-3
_STEPS_PER_EXECUTION = 25


@dataclass(frozen=True, eq=False)
class Lessons:
    """
    What a student learns from.

    Attributes:
        x: encoded rows of train, float32, shape (n, width).
        targets: label and teacher's logit, float32, shape (n, 2).
    """

    x: Floats32
    targets: Floats32


def distillation_loss(targets: Any, logits: Any) -> Any:
    """
    Mean over a batch of ``s T² H(σ(t/T), σ(z/T)) + (1 - s) H(y, σ(z))``, H the cross-entropy of a binary choice.

    T² keeps the soft gradients' size when T changes (Hinton et al. 2015, section 2). Takes TensorFlow tensors, so
    Keras 3 and tf_keras can both use it, and JAX's arrays where Keras runs on JAX.

    Args:
        targets: labels y and teacher logits t, shape (n, 2).
        logits: the student's z, shape (n, 1).
    """
    entropy, sigmoid, mean = _operations()
    hard = entropy(targets[:, :1], logits)
    soft = entropy(sigmoid(targets[:, 1:] / _TEMPERATURE), logits / _TEMPERATURE)
    return mean(_SOFT * _TEMPERATURE**2 * soft + (1 - _SOFT) * hard)


def _operations() -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """Cross-entropy of labels and logits, sigmoid and mean, for the tensors of the backend."""
    if on_jax():
        from keras import ops

        return functools.partial(ops.binary_crossentropy, from_logits=True), ops.sigmoid, ops.mean
    import tensorflow as tf

    return tf.nn.sigmoid_cross_entropy_with_logits, tf.sigmoid, tf.reduce_mean


def batch_size(rows: int, fewest_steps: int, largest: int) -> int:
    """The largest batch that still gives an epoch ``fewest_steps`` steps, within 32 and ``largest``."""
    return min(largest, max(32, rows // fewest_steps))


def distil(keras: Any, lessons: Lessons, recipe: Recipe) -> Any:
    """The recipe's student, trained; a Keras 3 model with a logit as output, calibrated as its teacher is."""
    keras.utils.set_random_seed(recipe.seed)
    model = build(keras, lessons.x.shape[1], recipe.student, dropout=0.0)
    batch = batch_size(len(lessons.x), _FEWEST_STEPS, _BATCH)
    steps = max(1, len(lessons.x) // batch)
    model.compile(
        optimizer=keras.optimizers.AdamW(
            keras.optimizers.schedules.CosineDecay(_LEARNING_RATE, steps * _EPOCHS), weight_decay=0.01
        ),
        loss=distillation_loss,
        steps_per_execution=min(_STEPS_PER_EXECUTION, steps),
        jit_compile=on_jax(),
    )
    model.fit(lessons.x, lessons.targets, epochs=_EPOCHS, batch_size=batch, verbose=0)
    return model
