"""
What learning a binary label asks of every family: outputs, losses, class weights, calibration.

All that training knows of the kind of target is here, so another kind is another one of these.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sluice.arrays import Floats, Floats32

OUTPUTS = 1
"""Raw outputs of a model: one logit."""
TREES = {"objective": "binary:logistic", "eval_metric": "logloss"}
"""What XGBoost minimizes and measures."""
_TEMPERATURES = np.geomspace(1.0, 4.0, 61)
"""Never below 1: one calm month after train would make the model too sure of itself in the months that follow."""


def log_loss(y: Floats32, logits: Floats) -> float:
    """Mean negative log likelihood of labels (n,) under logits (n,), in nats."""
    return float(np.mean(np.logaddexp(0.0, logits) - y * logits))


def positive_weight(y: Floats32) -> float:
    """
    Weight of the positive class that makes both classes as heavy.

    Weighting by w adds log w to the optimal logit (Elkan 2001, "The Foundations of Cost-Sensitive Learning",
    theorem 2).
    """
    return float((1 - y.mean()) / y.mean())


def class_weights(weight: float) -> dict[int, float]:
    """As Keras's ``fit`` takes them."""
    return {0: 1.0, 1: weight}


def network_loss(keras: Any) -> Any:
    """The Keras loss of labels and logits, without weights."""
    return keras.losses.BinaryCrossentropy(from_logits=True)


def weighted_losses(tf: Any, y: Any, logits: Any, weight: float) -> Any:
    """Of TensorFlow's tensors (n,): the loss of each row by the weight of its class; ``tf`` is the module."""
    return tf.nn.sigmoid_cross_entropy_with_logits(y, logits) * (1 + (weight - 1) * y)


def best_temperature(y: Floats32, logits: Floats) -> float:
    """The divisor of the logits that gives the least log loss (Guo et al. 2017, section 4.2)."""
    losses = [log_loss(y, logits / temperature) for temperature in _TEMPERATURES]
    return float(_TEMPERATURES[int(np.argmin(losses))])
