"""From a Keras model (either Keras) to a LiteRT file, checked against the model that it came from."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from sluice.arrays import Floats32
from sluice.errors import BadArtifact
from sluice.models.runtime import LiteRTScorer
from sluice.training.determinism import quiet_stderr
from sluice.training.objective import Objective

_TOLERANCE = 1e-4
_TOLERANCE_INT8 = 0.1
"""
Largest difference of a prediction between the model and its file, of probabilities as it is, of values as a part of how
far they lie apart: rounding of float32, and of int8.
"""


def export_litert(model: Any, rows: Floats32, name: str, objective: Objective, *, int8: bool = False) -> bytes:
    """
    The model as a ``.tflite`` file with float input (n, width) and float output (n, outputs).

    Args:
        model: from either Keras; it gives raw outputs.
        rows: encoded rows to compare both on, float32, shape (n, width).
        name: how messages call it.
        objective: says what raw outputs predict.
        int8: make use of the scales of a quantization-aware model.

    Raises:
        BadArtifact: the file answers otherwise than the model (a conversion can go wrong without a word).
    """
    import tensorflow as tf

    signature = tf.TensorSpec((None, rows.shape[1]), tf.float32, name="features")
    function = tf.function(lambda features: model(features, training=False)).get_concrete_function(signature)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    if int8:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    with warnings.catch_warnings(action="ignore"), quiet_stderr():  # it asks for statistics that the model has
        data = bytes(converter.convert())
        after = objective.target.link(LiteRTScorer(data).raw(rows))
    before = objective.target.link(np.asarray(model(rows, training=False)).astype(np.float64))
    apart = float(np.abs(before - after).max())
    if not (np.abs(before - after) <= objective.allowed(before, _TOLERANCE_INT8 if int8 else _TOLERANCE)).all():
        raise BadArtifact(f"{name}.tflite", f"answers {apart:.2g} apart from its model", "convert it another way")
    return data


def kernel_sparsity(model: Any) -> float:
    """Share of zeros among the weights of all kernels."""
    kernels = [weight for weight in model.get_weights() if weight.ndim > 1]
    zeros = sum(int(np.count_nonzero(kernel == 0)) for kernel in kernels)
    return zeros / sum(int(kernel.size) for kernel in kernels)
