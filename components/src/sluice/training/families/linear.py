"""A linear model of the encoded columns, bins too: piecewise linear in each number. Of classes, logistic regression."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from sluice.documents.model import FrozenDocument
from sluice.training.families.network import NetworkFamily, NetworkInputs, NetworkSpec


class LinearSettings(FrozenDocument):
    """What holds the weights down."""

    ridge: float = Field(default=0.0, ge=0)
    """Weight of the sum of squares of the coefficients in the loss."""


def build(keras: Any, inputs: NetworkInputs, spec: NetworkSpec) -> Any:
    """Raw outputs."""
    ridge = keras.regularizers.L2(spec.settings["ridge"])
    return keras.layers.Dense(inputs.outputs, kernel_regularizer=ridge, name="logit")(inputs.everything)


FAMILY = NetworkFamily(build, LinearSettings)
