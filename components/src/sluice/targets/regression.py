"""A number: a label of any finite value, one output or one a quantile, no threshold."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, model_validator

from sluice.arrays import Floats, Ints
from sluice.targets.kind import PRIOR_ROWS, AnswerField, Fault, LabelCodes, Outcomes, Pictures, TargetKind, TrainingLoss
from sluice.targets.metric import Metric
from sluice.targets.sums import Summation, ratio
from sluice.targets.values import ERROR_METRICS, mean_errors, value_bins

_LOSSES = {"squared": "mse", "absolute": "mae", "pinball": "pinball"}
_LARGEST = 3.4e38
_HEADLINE = ("rmse", "mae", "bias")


class Regression(TargetKind):
    """
    A number; predictions are (n, 1), or (n, q) quantiles in ascending order where the loss is pinball.

    The loss says what a prediction aims at: the mean (squared), the median (absolute), the quantiles (pinball).
    """

    shares = ("coverage",)
    numbers = ("rmse", "mse", "mae", "bias", "r2", "pinball", "width")
    loss_names = tuple(_LOSSES.values())
    kind: Literal["regression"] = "regression"
    loss: Literal["squared", "absolute", "pinball"] = "squared"
    quantiles: tuple[float, ...] = ()
    """Of pinball: between 0 and 1, ascending, 0.5 among them; that one is the value."""
    unit: str = ""
    tolerance: float | None = Field(default=None, gt=0)
    """Two models agree on a request where their values differ by no more; without it nobody can say."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.loss == "pinball") != bool(self.quantiles):
            raise ValueError("loss 'pinball' needs 'quantiles', and no other loss takes them")
        inside = all(0 < quantile < 1 for quantile in self.quantiles)
        ascending = all(low < high for low, high in pairwise(self.quantiles))
        if self.quantiles and not (inside and ascending and 0.5 in self.quantiles):
            raise ValueError("quantiles ascend between 0 and 1, with 0.5 among them")
        return self

    @property
    def label_type(self) -> pl.DataType:
        """A number."""
        return pl.Float64()

    def label_fault(self, labels: pl.Series) -> Fault | None:
        """NaN, infinity, and what no number of 32 bits is."""
        if not labels.dtype.is_numeric():
            return Fault(f"labels of type {labels.dtype}, not numbers", "let read_examples give numbers")
        bad = labels.filter(~(labels.cast(pl.Float64).abs() <= _LARGEST))
        if bad.is_empty():
            return None
        rule = f"label {bad[0]!r} in {len(bad)} of {len(labels)} rows, no finite number of 32 bits"
        return Fault(rule, "leave such rows out, or give null where no label ever comes")

    def codes(self, labels: pl.Series) -> Floats:
        """(n,) as they are."""
        return labels.cast(pl.Float64).to_numpy()

    @property
    def outputs(self) -> int:
        """The value, or each quantile."""
        return max(1, len(self.quantiles))

    @property
    def training_loss(self) -> TrainingLoss:
        """What it aims at."""
        return TrainingLoss(self.loss, self.quantiles)

    def link(self, raw: Floats) -> Floats:
        """
        As they are; quantiles sorted, so that none crosses another.

        Chernozhukov, Fernández-Val, Galichon, "Quantile and probability curves without crossing" (2010): sorting never
        makes them worse.
        """
        return np.sort(raw, axis=1)

    @property
    def columns(self) -> tuple[str, ...]:
        """The value, or the quantiles."""
        return tuple(f"q{quantile:g}" for quantile in self.quantiles) or ("value",)

    @property
    def answer_words(self) -> str:
        """For the card."""
        unit = f" in {self.unit}" if self.unit else ""
        return f"a number{unit}" + (f" and its quantiles {', '.join(self.columns)}" if self.quantiles else "")

    @property
    def noun(self) -> str:
        """Finite and in order."""
        return "finite numbers" if not self.quantiles else "finite numbers in ascending order"

    def are_predictions(self, predictions: Floats) -> NDArray[np.bool_]:
        """Finite and in order."""
        ordered = (predictions[:, 1:] >= predictions[:, :-1]).all(axis=1)
        return np.asarray((np.abs(predictions) <= _LARGEST).all(axis=1) & ordered)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Errors of the value; of quantiles also the share of labels between the outer ones."""
        squared = [Metric(name="mse", title="mean squared error")] if self.loss == "squared" else []
        shared = (
            Metric(name="rmse", title="root mean squared error"),
            *squared,
            *ERROR_METRICS,
            Metric(name="r2", title="R²", higher=True, low=None, high=1.0),
        )
        if not self.quantiles:
            return shared
        inside = round(self.quantiles[-1] - self.quantiles[0], 9)
        coverage = Metric(name="coverage", title="interval coverage", high=1.0, best=inside)
        pinball, width = Metric(name="pinball", title="pinball loss"), Metric(name="width", title="interval width")
        return (pinball, *shared, *((coverage, width) if len(self.quantiles) > 1 else ()))

    @property
    def loss_metric(self) -> str:
        """The mean of ``losses``."""
        return _LOSSES[self.loss]

    @property
    def ranking(self) -> str:
        """What it aims at."""
        return self.loss_metric

    @property
    def headline(self) -> tuple[str, ...]:
        """Errors, and of quantiles how many labels they hold."""
        return ("pinball", "mae", "coverage" if len(self.quantiles) > 1 else "bias") if self.quantiles else _HEADLINE

    def losses(self, labels: LabelCodes, predictions: Floats) -> Floats:
        """Squared, absolute, or the mean over quantiles q of max(q e, (q - 1) e), e label minus prediction."""
        error = labels[:, np.newaxis] - predictions
        if self.loss == "squared":
            return np.asarray(error[:, 0] ** 2)
        if self.loss == "absolute":
            return np.asarray(np.abs(error[:, 0]))
        quantiles = np.array(self.quantiles)
        return np.asarray(np.maximum(quantiles * error, (quantiles - 1) * error).mean(axis=1))

    def resampled(self, outcomes: Outcomes, sums: Summation) -> dict[str, Floats]:
        """R² is of each resample's own mean."""
        labels, predictions = outcomes.labels, outcomes.predictions
        value = self._value(predictions)
        n, squares = sums.total(np.ones(labels.size)), sums.total((labels - value) ** 2)
        centred = labels - labels.mean() if labels.size else labels
        spread = sums.total(centred**2) - ratio(sums.total(centred) ** 2, n)
        measures = {
            "rmse": np.sqrt(ratio(squares, n)),
            **mean_errors(labels, value, sums),
            "r2": np.asarray(1 - ratio(squares, np.where(spread > 0, spread, np.nan))),
            _LOSSES[self.loss]: ratio(sums.total(self.losses(labels, predictions)), n),
        }
        if len(self.quantiles) > 1:
            low, high = predictions[:, 0], predictions[:, -1]
            inside = ((labels >= low) & (labels <= high)).astype(np.float64)
            measures |= {"coverage": ratio(sums.total(inside), n), "width": ratio(sums.total(high - low), n)}
        return measures

    def _value(self, predictions: Floats) -> Floats:
        return predictions[:, self.quantiles.index(0.5) if self.quantiles else 0]

    def constant(self, labels: LabelCodes) -> Floats:
        """The mean, the median or the quantiles."""
        if self.loss == "squared":
            return np.array([labels.mean(dtype=np.float64)])
        return np.quantile(labels.astype(np.float64), self.quantiles or (0.5,))

    def by_group(self, labels: LabelCodes, groups: Ints, size: int) -> Floats:
        """Quantiles have no sums to lean on others with: groups of fewer than ``PRIOR_ROWS`` rows get the constant."""
        if self.loss == "squared":
            return super().by_group(labels, groups, size)
        measures = np.tile(self.constant(labels), (size, 1))
        order = np.argsort(groups, kind="stable")
        present, starts = np.unique(groups[order], return_index=True)
        for group, rows in zip(present, np.split(labels[order], starts[1:]), strict=True):
            if rows.size >= PRIOR_ROWS:
                measures[group] = self.constant(rows)
        return measures

    def pictures(self, labels: LabelCodes, predictions: Floats | None, threshold: float | None) -> Pictures:  # noqa: ARG002
        """Predicted against actual, and residuals, by tenths of the predictions."""
        return Pictures() if predictions is None else Pictures(pictures=(value_bins(labels, self._value(predictions)),))

    @property
    def answers(self) -> tuple[AnswerField, ...]:
        """The value, and where the model gives them, the quantiles."""
        value = AnswerField("value", "FP64")
        return (value, AnswerField("quantiles", "FP64", len(self.quantiles))) if self.quantiles else (value,)

    def answer(self, predictions: Floats, threshold: float | None) -> dict[str, list[Any]]:  # noqa: ARG002
        """As of ``answers``."""
        values = {"value": self._value(predictions).tolist()}
        return {**values, "quantiles": predictions.tolist()} if self.quantiles else values

    def shift(self, ours: Floats, theirs: Floats) -> Floats:
        """Distance of both values, in the target's unit."""
        return np.asarray(np.abs(self._value(ours) - self._value(theirs)))

    def agreement(
        self,
        ours: Floats,
        theirs: Floats,
        thresholds: tuple[float | None, float | None],  # noqa: ARG002
    ) -> NDArray[np.bool_] | None:
        """Within the tolerance."""
        return None if self.tolerance is None else np.asarray(self.shift(ours, theirs) <= self.tolerance)

    def covariates(self, labels: LabelCodes, predictions: Floats) -> Mapping[str, Floats]:
        """The residual, and residual times prediction: derivatives of the squared loss by a shift and a stretch."""
        value = self._value(predictions)
        return {"residual": labels - value, "residual_value": (labels - value) * value}
