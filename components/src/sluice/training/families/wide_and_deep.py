"""
Wide and deep (Cheng et al. 2016, "Wide & Deep Learning for Recommender Systems"): an example of a network of one's own.

Deep: an embedding of every string, next to the numbers, through hidden layers. Wide: the one-hot codes themselves.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from sluice.documents.model import FrozenDocument
from sluice.models.builder import hidden_layers
from sluice.training.families.network import NetworkFamily, NetworkInputs, NetworkSpec


class WideAndDeepSettings(FrozenDocument):
    """How strings enter."""

    embedding: int = Field(default=8, ge=1, le=256)
    """Numbers that a category becomes."""


def build(keras: Any, inputs: NetworkInputs, spec: NetworkSpec) -> Any:
    """Raw outputs. A product with a one-hot code picks a row: Dense without bias is the embedding."""
    layers, units = keras.layers, spec.settings["embedding"]
    strings = inputs.categories.items()
    embedded = [layers.Dense(units, use_bias=False, name=f"embedding_{name}")(code) for name, code in strings]
    deep = layers.Concatenate()([inputs.numbers, *embedded]) if embedded else inputs.numbers
    for layer in hidden_layers(keras, spec.hidden, spec.dropout):
        deep = layer(deep)
    both = layers.Concatenate()([deep, *inputs.categories.values()]) if embedded else deep
    return layers.Dense(inputs.outputs, name="logit")(both)


FAMILY = NetworkFamily(build, WideAndDeepSettings)
