"""
A network of texts: the n-grams of each become the sum of their embeddings, then hidden layers; other features beside.

A product of counts with a matrix is the sum of its rows: Dense without bias is the bag of embeddings (Joulin et al.
2017, "Bag of Tricks for Efficient Text Classification"). ``embedding`` 0 leaves it out: linear in the counts, where
the recipe's ``teacher`` has no layers either.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from sluice.documents.model import FrozenDocument
from sluice.errors import BadInput
from sluice.models.builder import hidden_layers
from sluice.training.families.network import NetworkFamily, NetworkInputs, NetworkSpec


class TextSettings(FrozenDocument):
    """How texts enter; the hidden layers are the recipe's ``teacher``."""

    embedding: int = Field(default=16, ge=0, le=1024)
    """Numbers that an n-gram becomes."""


def build(keras: Any, inputs: NetworkInputs, spec: NetworkSpec) -> Any:
    """The logits."""
    if not inputs.texts:
        rule = "is of texts, and the recipe's features have none"
        raise BadInput("family 'text'", rule, "name a text among the features, or take another family")
    if inputs.tensors:
        rule = f"takes no tensor, and {next(iter(inputs.tensors))!r} is one"
        raise BadInput("family 'text'", rule, "leave it out of the features, or take another family")
    layers, size = keras.layers, spec.settings["embedding"]
    parts = [
        layers.Dense(size, use_bias=False, name=f"embedding_{name}")(text) if size else text
        for name, text in inputs.texts.items()
    ]
    parts += [each for each in (inputs.numbers, *inputs.categories.values()) if each.shape[1]]
    x = layers.Concatenate()(parts) if len(parts) > 1 else parts[0]
    for layer in hidden_layers(keras, spec.hidden, spec.dropout):
        x = layer(x)
    return layers.Dense(inputs.outputs, name="logit")(x)


FAMILY = NetworkFamily(build, TextSettings)
