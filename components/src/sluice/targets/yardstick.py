"""What a task's models are measured by: the metrics of its target, and its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sluice.arrays import Floats
from sluice.documents.evaluation import TaskMetric
from sluice.errors import BadInput, one_line
from sluice.targets.kind import LabelCodes, Outcomes, TargetKind
from sluice.targets.metric import OWN, MetricList
from sluice.targets.registry import BINARY, metric_list
from sluice.targets.sums import RowSums, Summation, ratio

_MEND = "let it give a finite number for each row"

RowValues = Callable[[LabelCodes, Floats], NDArray[Any]]
"""Of labels (n,) or (n, k) and predictions (n, k'): (n,) finite."""


@dataclass(frozen=True)
class OwnMetric:
    """
    A metric of a task: the mean of a number that each row has.

    Attributes:
        name: policies call it ``task.<name>``.
        title: in a sentence of people.
        values: of the rows' labels, as numbers, and predictions.
        weights: of the same, where it is a weighted mean; a loss has none.
        higher: whether more is better.
    """

    name: str
    title: str
    values: RowValues
    weights: RowValues | None = None
    higher: bool = False

    def __post_init__(self) -> None:
        """
        Raises:
            BadInput: its name is none.
        """
        if not self.name.isidentifier() or not self.name.islower():
            raise BadInput(f"own metric {self.name!r}", "is no name of small letters, digits and _", "rename it")

    @property
    def document(self) -> TaskMetric:
        """What an evaluation says of it."""
        return TaskMetric(name=OWN + self.name, title=self.title, higher=self.higher)


@dataclass(frozen=True)
class Yardstick:
    """
    The metrics of one task.

    Attributes:
        own: those of the task beside the kind's.
        own_loss: the name of one of them, where it is the loss instead of the kind's.
    """

    target: TargetKind = BINARY
    own: tuple[OwnMetric, ...] = ()
    own_loss: str | None = None

    def __post_init__(self) -> None:
        """
        Raises:
            BadInput: two metrics have one name, or the loss is none of them.
        """
        names = [metric.name for metric in self.own]
        if repeated := next((name for name in names if names.count(name) > 1), None):
            raise BadInput(f"own metric {repeated!r}", "is there twice", "name each once")
        loss = next((metric for metric in self.own if metric.name == self.own_loss), None)
        if self.own_loss is not None and (loss is None or loss.weights or loss.higher):
            rule = "has weights, or is better when higher" if loss else "is none of the task's own metrics"
            raise BadInput(f"own loss {self.own_loss!r}", rule, "name one whose plain mean is to be small")

    @property
    def metrics(self) -> MetricList:
        """The kind's, then the task's own."""
        loss = None if self.own_loss is None else OWN + self.own_loss
        return metric_list(self.target, (own.document for own in self.own), loss)

    def losses(self, labels: LabelCodes, predictions: Floats) -> Floats:
        """(n,) the loss of each row."""
        loss = next((own for own in self.own if own.name == self.own_loss), None)
        return _row_values(loss, loss.values, labels, predictions) if loss else self.target.losses(labels, predictions)

    def expected_losses(self, predictions: Floats) -> Floats | None:
        """As of ``TargetKind.expected_losses``; of an own loss nobody knows."""
        return None if self.own_loss else self.target.expected_losses(predictions)

    def exact(self, outcomes: Outcomes) -> dict[str, float]:
        """Every metric that is defined on these rows."""
        means = {name: float(mean) for name, mean in self._own_means(outcomes, RowSums()).items()}
        return {**self.target.exact(outcomes), **{name: mean for name, mean in means.items() if np.isfinite(mean)}}

    def resampled(self, outcomes: Outcomes, sums: Summation) -> dict[str, Floats]:
        """Every metric by these sums, (...,) each."""
        return {**self.target.resampled(outcomes, sums), **self._own_means(outcomes, sums)}

    def _own_means(self, outcomes: Outcomes, sums: Summation) -> dict[str, Floats]:
        return {own.document.name: _mean(own, outcomes, sums) for own in self.own}


def _mean(own: OwnMetric, outcomes: Outcomes, sums: Summation) -> Floats:
    labels, predictions = outcomes.labels, outcomes.predictions
    values = _row_values(own, own.values, labels, predictions)
    weights = _row_values(own, own.weights, labels, predictions) if own.weights else np.ones(len(labels))
    return ratio(sums.total(values * weights), sums.total(weights))


def _row_values(own: OwnMetric, function: RowValues, labels: LabelCodes, predictions: Floats) -> Floats:
    try:
        values = np.asarray(function(labels, predictions), dtype=np.float64)
    except Exception as error:
        rule = f"raises {type(error).__name__} ({one_line(error, 200)})"
        raise BadInput(f"own metric {own.name!r}", rule, _MEND) from error
    if values.shape != (len(labels),):
        raise BadInput(f"own metric {own.name!r}", f"gives shape {values.shape} for {len(labels)} rows", _MEND)
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise BadInput(f"own metric {own.name!r}", f"gives {bad} of {values.size} numbers that are not finite", _MEND)
    return values
