"""
What learning a target asks of every family: outputs, losses, class weights, units, calibration.

All that training knows of the kind of target is here; what differs by loss is an entry of ``LOSS_FORMS``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from sluice.arrays import Floats, Floats32
from sluice.errors import BadInput
from sluice.targets.kind import TargetKind, TrainingLoss
from sluice.training.loss_forms import LOSS_FORMS, LossForm, labels_of

_SOFT = 0.9
"""Share of the teacher in what a student learns."""
_BITS = 2.0**-24
_FINEST = 100 * _BITS
"""Labels whose spread is a smaller part of their size than this are not told apart by numbers of 32 bits."""
_ROUNDINGS = 64
"""Roundings of a number of 32 bits that a model and its file may differ by, whatever its predictions."""
_LARGEST = 1e12
"""Squares of larger labels, and sums of them, leave 32 bits."""


@dataclass(frozen=True, eq=False)
class Objective:
    """
    One target as train split has it.

    Shapes: labels ``y`` float32 (n,) or (n, c) as ``EncodedSplit`` has them; ``z`` (n, outputs) a network's outputs
    while it learns; raw outputs (n, outputs) what ``target.link`` takes. For tensors, ``ops`` is ``keras.ops``.

    Attributes:
        target: what is learned.
        weight: of the positive class while a network learns; 1 where classes are not balanced.
        centre, spread: labels that are values are learned as ``(y - centre) / spread``; 0 and 1 of others.
        start: (outputs,) z that a network begins with: the target's constant.
    """

    target: TargetKind
    weight: float
    centre: float
    spread: float
    start: Floats

    @property
    def outputs(self) -> int:
        """Raw outputs of a model."""
        return self.target.outputs

    @cached_property
    def loss(self) -> TrainingLoss:
        """What is minimized."""
        return self.target.training_loss

    @cached_property
    def form(self) -> LossForm:
        """The loss in all its forms."""
        return LOSS_FORMS[self.loss.name]

    @property
    def loss_name(self) -> str:
        """How the target calls its loss."""
        return self.target.loss_metric

    @cached_property
    def loss_title(self) -> str:
        """The same for people."""
        return next(metric.title for metric in self.target.metrics if metric.name == self.loss_name)

    @cached_property
    def ranks(self) -> bool:
        """Whether one output ranks the rows of two classes."""
        return self.outputs == 1 and any(metric.name == "auc" for metric in self.target.metrics)

    @property
    def shift(self) -> float:
        """What class weights and the labels' unit have added to z."""
        return float(np.log(self.weight)) + self.student_shift

    @property
    def student_shift(self) -> float:
        """The same of a student, which learns without class weights."""
        return -self.centre / self.spread

    @property
    def has_unit(self) -> bool:
        """Whether labels are learned in another unit than their own."""
        return (self.centre, self.spread) != (0, 1)

    def raw(self, z: Floats) -> Floats:
        """Raw outputs before calibration."""
        return (z - self.shift) / (1 / self.spread)

    def student_raw(self, z: Floats) -> Floats:
        """The same of what learned without class weights."""
        return (z - self.student_shift) / (1 / self.spread)

    def in_units(self, values: Floats32) -> Floats32:
        """Labels, or raw outputs, in the unit in which a network learns them."""
        if not self.has_unit:
            return values
        return ((values.astype(np.float64) - self.centre) / self.spread).astype(np.float32)

    # Of numbers

    def mean_loss(self, y: Floats32, raw: Floats) -> float:
        """The mean of the target's losses."""
        if self.form.mean is not None:
            return self.form.mean(labels_of(y), raw)
        return float(np.mean(self.target.losses(y, self.target.link(raw))))

    def temperatures(self, y: Floats32, raw: Floats) -> Floats:
        """
        Divisors (outputs,) of the raw outputs that give the least loss: one a label, one for all classes, and 1 where
        outputs are values or rates.
        """
        return self.form.temperatures(
            self.form.mean or (lambda _, scaled: self.mean_loss(y, scaled)), labels_of(y), raw
        )

    def row_weights(self, y: Floats32) -> Floats32 | None:
        """
        (n,) weights that make both classes as heavy; ``None`` where all rows weigh the same.

        Weighting by w adds log w to the optimal logit (Elkan 2001, "The Foundations of Cost-Sensitive Learning",
        theorem 2).
        """
        return np.where(y == 1, self.weight, 1.0).astype(np.float32) if self.loss.balanced else None

    def allowed(self, predictions: Floats, tolerance: float) -> Floats:
        """(k',) how far a file's predictions may be from its model's: of values a part of how far these lie apart."""
        if self.form.shares:
            return np.full(predictions.shape[1], tolerance)
        size = np.abs(predictions).max(axis=0)
        return np.asarray(tolerance * np.ptp(predictions, axis=0) + _ROUNDINGS * _BITS * size)

    @property
    def trees(self) -> dict[str, Any]:
        """What XGBoost minimizes and measures."""
        return dict(self.form.trees(self.outputs, self.loss))

    def linear(self, design: Floats, y: Floats32) -> Floats:
        """Coefficients (d, outputs) of the linear baseline, whose z are ``design @ coefficients``, without weights."""
        return self.form.linear(design, labels_of(self.in_units(y)), self.outputs, self.loss)

    # Of tensors

    def network_loss(self, ops: Any, y: Any, z: Any) -> Any:
        """(n,) losses without weights, of labels in units: what Keras minimizes."""
        return self.form.rows(ops, ops.reshape(y, (-1, self._columns)), z, self.loss)

    def weighted_losses(self, ops: Any, y: Any, z: Any) -> Any:
        """(n,) the same by the weight of each row's class."""
        losses = self.network_loss(ops, y, z)
        return losses * (1 + (self.weight - 1) * y) if self.loss.balanced else losses

    def lessons(self, y: Floats32, raw: Floats) -> Floats32:
        """(n, c + outputs) what a student learns from: labels, then its teacher's raw outputs, both in units."""
        labels = self.in_units(y).reshape(len(y), -1)
        return np.concatenate([labels, self.in_units(raw.astype(np.float32))], axis=1)

    def distillation_loss(self, ops: Any, lessons: Any, z: Any) -> Any:
        """
        Mean over a batch of ``s S + (1 - s) L``: S what the student lacks of its teacher, L the loss of the labels.

        Keras 3 and tf_keras can both use it.

        Args:
            ops: ``keras.ops``. lessons: as of ``lessons``. z: the student's outputs.
        """
        labels, teacher = lessons[:, : self._columns], lessons[:, self._columns :]
        hard = self.form.rows(ops, labels, z, self.loss)
        return ops.mean(_SOFT * self.form.soft(ops, teacher, z) + (1 - _SOFT) * hard)

    @cached_property
    def _columns(self) -> int:
        """Of labels."""
        codes = self.target.codes(pl.Series([], dtype=self.target.label_type))
        return 1 if codes.ndim == 1 else int(codes.shape[1])


def objective_of(target: TargetKind, y: Floats32) -> Objective:
    """
    How the target is learned from the labels of split train, as ``EncodedSplit`` has them.

    Raises:
        BadInput: the labels are values that numbers of 32 bits hardly tell apart, or cannot add up.
    """
    loss, labels = target.training_loss, labels_of(y)
    form = LOSS_FORMS[loss.name]
    centre, spread = form.unit(labels)
    if not np.abs(labels).max() <= _LARGEST:
        raise _refusal(f"has numbers of up to {np.abs(labels).max():.2g}, over {_LARGEST:.0g}", "take a larger unit")
    if not spread > _FINEST * abs(centre):
        rule = f"has numbers around {centre:.6g} that lie {spread:.2g} apart, too near for 32 bits"
        raise _refusal(rule, "subtract what they have in common")
    if loss.balanced:
        return Objective(target, _positive_weight(y), centre, spread, np.zeros(target.outputs))
    start = (form.start(target.constant(y)) - centre) / spread
    return Objective(target, 1.0, centre, spread, start)


def _positive_weight(y: Floats32) -> float:
    """Weight of the positive class that makes both classes as heavy."""
    return float((1 - y.mean()) / y.mean())


def _refusal(rule: str, fix: str) -> BadInput:
    return BadInput("split 'train': column 'label'", rule, fix)


def start_from(model: Any, start: Floats) -> None:
    """Let an untrained network begin with outputs around ``start``, (outputs,): its last layer's bias."""
    if start.any():
        kernel, bias = model.layers[-1].get_weights()
        model.layers[-1].set_weights([kernel, bias + start.astype(np.float32)])


def fold(model: Any, shift: float, divisors: Floats) -> None:
    """Fold ``(z - shift) / divisors``, divisors (outputs,), into the last layer, so that it gives raw outputs."""
    kernel, bias = model.layers[-1].get_weights()
    parts = divisors.astype(np.float32)
    model.layers[-1].set_weights([kernel / parts, (bias - np.float32(shift)) / parts])
