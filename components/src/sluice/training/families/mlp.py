"""A multi-layer perceptron: ReLU layers of the recipe's sizes with dropout between them. It has no settings."""

from __future__ import annotations

from typing import Any

from sluice.documents.model import FrozenDocument
from sluice.models.builder import hidden_layers
from sluice.training.families.network import NetworkFamily, NetworkInputs, NetworkSpec


class MlpSettings(FrozenDocument):
    """None: sizes and dropout are the recipe's own."""


def build(keras: Any, inputs: NetworkInputs, spec: NetworkSpec) -> Any:
    """Raw outputs."""
    x = inputs.everything
    for layer in hidden_layers(keras, spec.hidden, spec.dropout, spec.precision):
        x = layer(x)
    return keras.layers.Dense(inputs.outputs, dtype="float32", name="logit")(x)


FAMILY = NetworkFamily(build, MlpSettings, chain=True)
