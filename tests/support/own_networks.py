"""Functions of a user's own that a recipe may name as its family: good ones, and every way to get one wrong."""

from __future__ import annotations

from typing import Any


def crossed(keras: Any, inputs: Any, spec: Any) -> Any:
    """A network with a branch, a product and a setting of its own."""
    gate = keras.layers.Dense(spec.settings.get("units", 8), activation="sigmoid")(inputs.everything)
    value = keras.layers.Dense(spec.settings.get("units", 8))(inputs.numbers)
    mixed = keras.layers.Concatenate()([keras.layers.Multiply()([gate, value]), inputs.categories["shop"]])
    return keras.layers.Dense(inputs.outputs)(mixed)


def edges(keras: Any, inputs: Any, spec: Any) -> Any:
    """Of an image and a string: steps between the rows of pixels, and the string's code."""
    steps = keras.layers.Flatten()(inputs.tensors["image"][:, 1:] - inputs.tensors["image"][:, :-1])
    both = keras.layers.Concatenate()([steps, inputs.categories["pen"]])
    return keras.layers.Dense(inputs.outputs)(both)


def raises(keras: Any, inputs: Any, spec: Any) -> Any:
    """Asks for a feature that is not there."""
    return keras.layers.Dense(1)(inputs.categories["colour"])


def wide_output(keras: Any, inputs: Any, spec: Any) -> Any:
    """Forgets the last layer."""
    return keras.layers.Dense(7)(inputs.everything)


def probability(keras: Any, inputs: Any, spec: Any) -> Any:
    """Ends with a sigmoid, where a logit is due."""
    return keras.layers.Dense(1, activation="sigmoid")(inputs.everything)


def nothing(keras: Any, inputs: Any, spec: Any) -> Any:
    """Forgets to return."""


def summed(keras: Any, inputs: Any, spec: Any) -> Any:
    """Ends with a sum of two."""
    dense = keras.layers.Dense
    return keras.layers.Add()([dense(1)(inputs.everything), dense(1)(inputs.numbers)])


def single(keras: Any, inputs: Any, spec: Any) -> Any:
    """Forgets that there may be several outputs."""
    return keras.layers.Dense(1)(inputs.everything)


NUMBER = 7
