"""Quantize to int8: after training by litert-quantizer, or while training by tensorflow-model-optimization."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

from sluice.compression.legacy import fine_tune, fresh_copy, import_tfmot
from sluice.compression.student import Lessons
from sluice.tasks.recipe import Recipe


def quantize_weights(model: bytes) -> bytes:
    """
    A float LiteRT model with int8 weights, one scale a channel; activations are quantized row by row as they come.

    Input and output stay float: converting to int8 in Python costs more than such a small net itself.
    """
    from litert_quantizer import Quantizer, recipe

    with contextlib.redirect_stdout(io.StringIO()):
        return bytes(Quantizer(model, recipe.dynamic_wi8_afp32()).quantize().quantized_model)


def quantization_aware_student(weights: Path, lessons: Lessons, recipe: Recipe) -> Any:
    """
    A tf_keras model that learned with the rounding of int8 in its forward pass (Jacob et al. 2018, section 3).

    Its scales are part of it; ``sluice.training.export.export_litert`` with ``int8=True`` makes use of them.
    """
    tools = import_tfmot().quantization.keras
    student = fresh_copy(weights, lessons, recipe)
    aware = tools.quantize_model(student) if lessons.objective.form.shares else _hidden_quantized(tools, student)
    fine_tune(aware, lessons, recipe.seed)
    lessons.finish(aware)
    return aware


def _hidden_quantized(tools: Any, student: Any) -> Any:
    """All layers but the last, whose output would be one of 256 values: too few where predictions are no shares."""
    import tf_keras

    def annotated(layer: Any) -> Any:
        return layer if layer is student.layers[-1] else tools.quantize_annotate_layer(layer)

    copy = tf_keras.models.clone_model(student, clone_function=annotated)
    quantized = tools.quantize_apply(copy)
    quantized.layers[-1].set_weights(student.layers[-1].get_weights())
    return quantized
