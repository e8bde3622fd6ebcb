"""
A convolutional network of one image: blocks of convolution, ReLU and pooling, their mean over the image, hidden layers.

The mean (global average pooling; Lin, Chen, Yan 2014, "Network in Network", section 3.2) keeps it small, whatever the
size of the image. Other features enter the hidden layers beside it.
"""

from __future__ import annotations

import math
from typing import Any

from pydantic import Field

from sluice.documents.model import FrozenDocument
from sluice.errors import BadInput
from sluice.models.builder import hidden_layers
from sluice.training.families.network import NetworkFamily, NetworkInputs, NetworkSpec


class ConvolutionalSettings(FrozenDocument):
    """Sizes of the part that sees the image; the hidden layers after it are the recipe's ``teacher``."""

    filters: tuple[int, ...] = Field(default=(16, 32), min_length=1, max_length=8)
    """Of each block; the image is halved after each, as long as there are two pixels to halve."""
    kernel: int = Field(default=3, ge=1, le=11)
    """Pixels of a filter on either side."""
    flatten: bool = False
    """Take every place of the last block instead of its mean: where a thing is says what it is."""


def build(keras: Any, inputs: NetworkInputs, spec: NetworkSpec) -> Any:
    """The logits."""
    layers, settings = keras.layers, spec.settings
    x = _image(keras, inputs)
    for number, filters in enumerate(settings["filters"], start=1):  # type: ignore[arg-type]  # a tuple, as declared
        name = f"convolution_{number}"
        x = layers.Conv2D(filters, settings["kernel"], padding="same", activation="relu", name=name)(x)
        if min(x.shape[1:3]) > 1:
            x = layers.MaxPooling2D(2, name=f"pool_{number}")(x)
    x = (
        keras.ops.reshape(x, (-1, math.prod(x.shape[1:])))
        if settings["flatten"]
        else layers.GlobalAveragePooling2D()(x)
    )
    if others := [
        each for each in (inputs.numbers, *inputs.categories.values(), *inputs.texts.values()) if each.shape[1]
    ]:
        x = layers.Concatenate()([x, *others])
    for layer in hidden_layers(keras, spec.hidden, spec.dropout):
        x = layer(x)
    return layers.Dense(inputs.outputs, name="logit")(x)


def _image(keras: Any, inputs: NetworkInputs) -> Any:
    """The only tensor, shape (n, height, width, channels)."""
    if len(inputs.tensors) != 1:
        rule = f"is of exactly one image, and the recipe's features have {len(inputs.tensors)}"
        raise BadInput("family 'convolutional'", rule, "name one image among the features, or take another family")
    ((name, image),) = inputs.tensors.items()
    shape = tuple(image.shape[1:])
    if len(shape) not in (2, 3):
        rule = f"is of an image (height, width[, channels]), and {name!r} has shape {shape}"
        raise BadInput("family 'convolutional'", rule, "declare it so, or take another family")
    return image if len(shape) == 3 else keras.ops.expand_dims(image, -1)


FAMILY = NetworkFamily(build, ConvolutionalSettings)
