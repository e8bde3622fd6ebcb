"""How many: a label of 0, 1, 2 and so on, one output, the logarithm of a rate (Poisson)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sluice.arrays import Floats
from sluice.targets.kind import AnswerField, Fault, LabelCodes, Outcomes, Pictures, TargetKind, TrainingLoss
from sluice.targets.metric import Metric
from sluice.targets.sums import Summation, ratio
from sluice.targets.values import ERROR_METRICS, mean_errors, value_bins

_LARGEST = 2**31 - 1
_LOG_RATE = 30.0
"""Raw outputs are held within these, so that a rate is finite and above 0."""
_METRICS = (Metric(name="deviance", title="Poisson deviance"), *ERROR_METRICS)


class Counts(TargetKind):
    """A count; predictions are (n, 1) expected counts, above 0."""

    numbers = ("deviance", "mae", "bias")
    loss_names = ("deviance",)
    kind: Literal["counts"] = "counts"

    @property
    def label_type(self) -> pl.DataType:
        """A whole number."""
        return pl.Int64()

    def label_fault(self, labels: pl.Series) -> Fault | None:
        """Fractions, and what is below 0."""
        if not labels.dtype.is_integer():
            return Fault(f"labels of type {labels.dtype}, not whole numbers", "let read_examples give whole numbers")
        bad = labels.filter(~labels.is_between(0, _LARGEST))
        if bad.is_empty():
            return None
        rule = f"label {bad[0]} in {len(bad)} of {len(labels)} rows, which is no count of 0 to {_LARGEST}"
        return Fault(rule, "leave such rows out, or give null where no label ever comes")

    def codes(self, labels: pl.Series) -> Floats:
        """(n,) as they are."""
        return labels.cast(pl.Float64).to_numpy()

    @property
    def outputs(self) -> int:
        """The logarithm of the expected count."""
        return 1

    @property
    def training_loss(self) -> TrainingLoss:
        """The likelihood of a Poisson distribution."""
        return TrainingLoss("poisson")

    def link(self, raw: Floats) -> Floats:
        """The exponential function."""
        return np.exp(np.clip(raw, -_LOG_RATE, _LOG_RATE))

    @property
    def columns(self) -> tuple[str, ...]:
        """The expected count."""
        return ("count",)

    @property
    def answer_words(self) -> str:
        """For the card."""
        return "an expected count"

    @property
    def noun(self) -> str:
        """Above 0."""
        return "finite counts above 0"

    def are_predictions(self, predictions: Floats) -> NDArray[np.bool_]:
        """Finite and above 0."""
        return np.asarray((predictions[:, 0] > 0) & (predictions[:, 0] < np.inf))

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The deviance, then errors in counts."""
        return _METRICS

    @property
    def loss_metric(self) -> str:
        """What a Poisson model is fitted by."""
        return "deviance"

    @property
    def ranking(self) -> str:
        """The same."""
        return "deviance"

    @property
    def headline(self) -> tuple[str, ...]:
        """How it ranks, its loss, how honest it is."""
        return ("deviance", "mae", "bias")

    def losses(self, labels: LabelCodes, predictions: Floats) -> Floats:
        """Poisson deviance, 2 (y log(y / p) - y + p); 2 p where y is 0."""
        rate = predictions[:, 0]
        logs = np.log(np.where(labels > 0, labels, rate) / rate)
        return np.asarray(2 * (labels * logs - labels + rate))

    def resampled(self, outcomes: Outcomes, sums: Summation) -> dict[str, Floats]:
        """Means over rows."""
        labels, predictions = outcomes.labels, outcomes.predictions
        total = sums.total(self.losses(labels, predictions))
        deviance = ratio(total, sums.total(np.ones(labels.size)))
        return {"deviance": deviance, **mean_errors(labels, predictions[:, 0], sums)}

    def constant(self, labels: LabelCodes) -> Floats:
        """The mean, or as much as half a count in all rows: 0 is no expected count."""
        return np.array([max(float(labels.mean()), 0.5 / len(labels))])

    def pictures(self, labels: LabelCodes, predictions: Floats | None, threshold: float | None) -> Pictures:  # noqa: ARG002
        """Predicted against actual, and residuals, by tenths of the predictions."""
        return Pictures() if predictions is None else Pictures(pictures=(value_bins(labels, predictions[:, 0]),))

    @property
    def answers(self) -> tuple[AnswerField, ...]:
        """The expected count."""
        return (AnswerField("count", "FP64"),)

    def answer(self, predictions: Floats, threshold: float | None) -> dict[str, list[Any]]:  # noqa: ARG002
        """As of ``answers``."""
        return {"count": predictions[:, 0].tolist()}

    def shift(self, ours: Floats, theirs: Floats) -> Floats:
        """Distance of both expected counts."""
        return np.asarray(np.abs(ours - theirs)[:, 0])

    def agreement(
        self,
        ours: Floats,
        theirs: Floats,
        thresholds: tuple[float | None, float | None],  # noqa: ARG002
    ) -> NDArray[np.bool_]:
        """The same whole number."""
        return np.asarray(np.rint(ours[:, 0]) == np.rint(theirs[:, 0]))

    def covariates(self, labels: LabelCodes, predictions: Floats) -> Mapping[str, Floats]:
        """Derivatives of the deviance by a shift and a stretch of the logarithm of the rate."""
        rate = predictions[:, 0]
        return {"residual": labels - rate, "residual_log": (labels - rate) * np.log(rate)}
