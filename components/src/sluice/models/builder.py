"""
The network, written once for two Keras: Keras 3 trains it, tf_keras is what tensorflow-model-optimization takes.

Weights cross between the two as ``.weights.h5``; whole models (``.keras``) do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def build(
    keras_namespace: Any,
    width: int,
    hidden: Sequence[int],
    dropout: float,
    precision: str = "float32",
    outputs: int = 1,
) -> Any:
    """
    A multi-layer perceptron: ``hidden`` ReLU layers with dropout between them, raw outputs of a target out.

    Args:
        keras_namespace: the module ``keras`` or ``tf_keras``.
        width: columns of the encoded input, float32, shape (n, width).
        hidden: units of the hidden layers.
        dropout: share of units silenced while training; 0 leaves the layers out.
        precision: what the hidden layers compute in; weights and the outputs are float32 in any case.
        outputs: how many.

    Returns:
        A Sequential model with output shape (n, outputs).
    """
    layers = keras_namespace.layers
    stack = [
        layers.Input((width,), name="features"),
        *hidden_layers(keras_namespace, hidden, dropout, precision),
        layers.Dense(outputs, dtype="float32", name="logit"),
    ]
    return keras_namespace.Sequential(stack, name="mlp")  # a name of its own would count up and get into exported files


def hidden_layers(keras_namespace: Any, hidden: Sequence[int], dropout: float, precision: str = "float32") -> list[Any]:
    """Dense ReLU layers, each followed by dropout where that is not 0; arguments as of ``build``."""
    layers, stack = keras_namespace.layers, []
    for number, units in enumerate(hidden, start=1):
        stack.append(layers.Dense(units, activation="relu", dtype=precision, name=f"hidden_{number}"))
        if dropout:
            stack.append(layers.Dropout(dropout, dtype=precision, name=f"dropout_{number}"))
    return stack
