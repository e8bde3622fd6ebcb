"""
Each loss that models can be trained by, for Keras, for XGBoost and for a linear baseline: a new one is an entry here.

Tensors are those of Keras's backend, ``ops`` is ``keras.ops``. Labels (n, c) have a column, or one a label; outputs
(n, k) are a network's, which of values are in the train labels' own spread (``sluice.training.objective``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sluice.arrays import Floats, Floats32
from sluice.targets.kind import LossName, TrainingLoss
from sluice.training import linear_models

_LOG_RATE = 30.0
"""Logarithms of rates are held within these, as ``sluice.targets.counts`` holds them."""
_TEMPERATURE = 2.0
"""Of what a student learns from a teacher that gives probabilities (Hinton, Vinyals, Dean 2015)."""
_RAREST = 1e-6
"""A share is held this far from 0 and 1 where a network starts from it."""
_TEMPERATURES = np.geomspace(1.0, 4.0, 61)
"""Never below 1: one calm month after train would make the model too sure of itself in the months that follow."""

MeanLoss = Callable[[Floats, Floats], float]
"""Of labels (n, c) and raw outputs (n, k)."""


def _as_they_are(_mean: MeanLoss, _y: Floats, raw: Floats) -> Floats:
    """The level of the months after train is not that of months to come: there is nothing to set right."""
    return np.ones(raw.shape[1])


def _no_unit(_y: Floats) -> tuple[float, float]:
    return 0.0, 1.0


def _measured_so(values: Floats, _y: Floats) -> Floats:
    return values


@dataclass(frozen=True)
class LossForm:
    """
    One loss in all its forms.

    Attributes:
        rows: (n,) losses of labels (n, c) and outputs (n, k) under a ``TrainingLoss``, up to a constant.
        soft: (n,) what a student's outputs lack of its teacher's, (n, k) each.
        start: raw outputs (k,) that predict the target's constant (k,).
        trees: XGBoost's parameters for so many outputs.
        linear: coefficients (d, k) of a linear model: of a design (n, d), labels, outputs and the ``TrainingLoss``.
        linear_name: how that baseline is called.
        mean: mean loss of labels and raw outputs (n, k), where predictions would have to be clipped for it; without, it
            is the target's.
        temperatures: divisors (k,) of raw outputs (n, k) that make ``mean`` least.
        unit: centre and spread of train labels in which a network learns them; 0 and 1 where they have none.
        tree_loss: from XGBoost's measure of labels to the target's loss.
        shares: whether predictions are probabilities: a difference of 0.1 means the same for all of them, and 256 steps
            of the raw output are fine enough.
    """

    rows: Callable[[Any, Any, Any, TrainingLoss], Any]
    soft: Callable[[Any, Any, Any], Any]
    start: Callable[[Floats], Floats]
    trees: Callable[[int, TrainingLoss], Mapping[str, Any]]
    linear: Callable[[Floats, Floats, int, TrainingLoss], Floats]
    linear_name: str = "linear"
    mean: MeanLoss | None = None
    temperatures: Callable[[MeanLoss, Floats, Floats], Floats] = _as_they_are
    unit: Callable[[Floats], tuple[float, float]] = _no_unit
    tree_loss: Callable[[Floats, Floats], Floats] = _measured_so
    shares: bool = False


def _logistic(ops: Any, y: Any, z: Any, _loss: TrainingLoss) -> Any:
    return ops.mean(ops.binary_crossentropy(y, z, from_logits=True), axis=-1)


def _softmax(ops: Any, y: Any, z: Any, _loss: TrainingLoss) -> Any:
    return ops.sparse_categorical_crossentropy(ops.cast(y[:, 0], "int32"), z, from_logits=True)


def _squared(ops: Any, y: Any, z: Any, _loss: TrainingLoss) -> Any:
    return ops.mean(ops.square(y - z), axis=-1)


def _absolute(ops: Any, y: Any, z: Any, _loss: TrainingLoss) -> Any:
    return ops.mean(ops.abs(y - z), axis=-1)


def _pinball(ops: Any, y: Any, z: Any, loss: TrainingLoss) -> Any:
    levels = ops.convert_to_tensor(np.array(loss.quantiles, np.float32))
    return ops.mean(ops.maximum(levels * (y - z), (levels - 1) * (y - z)), axis=-1)


def _poisson(ops: Any, y: Any, z: Any, _loss: TrainingLoss) -> Any:
    held = ops.clip(z, -_LOG_RATE, _LOG_RATE)
    return ops.mean(ops.exp(held) - y * z, axis=-1)


def _soft_logistic(ops: Any, teacher: Any, z: Any) -> Any:
    """``T² H(σ(t/T), σ(z/T))``: T² keeps the gradients' size when T changes (Hinton et al. 2015, section 2)."""
    soft = ops.binary_crossentropy(ops.sigmoid(teacher / _TEMPERATURE), z / _TEMPERATURE, from_logits=True)
    return ops.mean(_TEMPERATURE**2 * soft, axis=-1)


def _soft_softmax(ops: Any, teacher: Any, z: Any) -> Any:
    shares = ops.softmax(teacher / _TEMPERATURE)
    return _TEMPERATURE**2 * ops.categorical_crossentropy(shares, z / _TEMPERATURE, from_logits=True)


def _soft_value(ops: Any, teacher: Any, z: Any) -> Any:
    """Squared whatever the loss: a teacher's answers have no outliers of their own to be robust against."""
    return ops.mean(ops.square(teacher - z), axis=-1)


def _soft_rate(ops: Any, teacher: Any, z: Any) -> Any:
    return _poisson(ops, ops.exp(ops.clip(teacher, -_LOG_RATE, _LOG_RATE)), z, TrainingLoss("poisson"))


def _logits(shares: Floats) -> Floats:
    held = np.clip(shares, _RAREST, 1 - _RAREST)
    return np.log(held / (1 - held))


def _centred_logs(shares: Floats) -> Floats:
    logs = np.log(np.clip(shares, _RAREST, 1))
    return np.asarray(logs - logs.mean())


def _same(values: Floats) -> Floats:
    return values


def _mean_and_deviation(y: Floats) -> tuple[float, float]:
    return float(y.mean()), float(y.std())


def _median_and_deviation(y: Floats) -> tuple[float, float]:
    """The mean distance: of heavy tails a standard deviation would say nothing of most rows."""
    median = float(np.median(y))
    return median, float(np.abs(y - median).mean())


def _log_loss(y: Floats, logits: Floats) -> float:
    """Mean negative log likelihood of labels under logits of the same shape, in nats."""
    return float(np.mean((np.logaddexp(0.0, logits) - y * logits).ravel()))


def _each(mean: MeanLoss, y: Floats, raw: Floats) -> Floats:
    columns = range(raw.shape[1])
    return np.array([_together(mean, y[:, [output]], raw[:, [output]])[0] for output in columns])


def _together(mean: MeanLoss, y: Floats, raw: Floats) -> Floats:
    """Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2."""
    losses = [mean(y, raw / temperature) for temperature in _TEMPERATURES]
    return np.full(raw.shape[1], _TEMPERATURES[int(np.argmin(losses))])


def _deviance(values: Floats, y: Floats) -> Floats:
    """Twice what XGBoost's negative log likelihood has above that of a model which knows every label."""
    counts, rows = np.unique(y, return_counts=True)
    known = [math.lgamma(count + 1) + count - (count * math.log(count) if count else 0.0) for count in counts.tolist()]
    return np.asarray(2 * (values - float(np.dot(known, rows)) / len(y)))


def _trees(objective: str, metric: str) -> Callable[[int, TrainingLoss], Mapping[str, Any]]:
    return lambda _outputs, _loss: {"objective": objective, "eval_metric": metric}


LOSS_FORMS: Mapping[LossName, LossForm] = {
    "logistic": LossForm(
        rows=_logistic,
        soft=_soft_logistic,
        mean=_log_loss,
        temperatures=_each,
        start=_logits,
        trees=_trees("binary:logistic", "logloss"),
        linear=linear_models.logistic,
        linear_name="logistic",
        shares=True,
    ),
    "softmax": LossForm(
        rows=_softmax,
        soft=_soft_softmax,
        temperatures=_together,
        start=_centred_logs,
        trees=lambda outputs, _: {"objective": "multi:softprob", "eval_metric": "mlogloss", "num_class": outputs},
        linear=linear_models.softmax,
        linear_name="logistic",
        shares=True,
    ),
    "squared": LossForm(
        rows=_squared,
        soft=_soft_value,
        start=_same,
        unit=_mean_and_deviation,
        trees=_trees("reg:squarederror", "rmse"),
        tree_loss=lambda values, _: values**2,
        linear=linear_models.squared,
    ),
    "absolute": LossForm(
        rows=_absolute,
        soft=_soft_value,
        start=_same,
        unit=_median_and_deviation,
        trees=_trees("reg:absoluteerror", "mae"),
        linear=linear_models.quantiles,
    ),
    "pinball": LossForm(
        rows=_pinball,
        soft=_soft_value,
        start=_same,
        unit=_median_and_deviation,
        trees=lambda _, loss: {
            "objective": "reg:quantileerror",
            "eval_metric": "quantile",
            "quantile_alpha": list(loss.quantiles),
        },
        linear=linear_models.quantiles,
    ),
    "poisson": LossForm(
        rows=_poisson,
        soft=_soft_rate,
        start=np.log,
        trees=_trees("count:poisson", "poisson-nloglik"),
        tree_loss=_deviance,
        linear=linear_models.rates,
    ),
}
"""Every loss that a target can name."""


def labels_of(y: Floats32) -> Floats:
    """Labels (n,) or (n, c) as columns, float64, shape (n, c)."""
    return y.astype(np.float64).reshape(len(y), -1)
