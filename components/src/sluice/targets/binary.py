"""Yes or no: a label of 0 or 1, one logit, one probability, a threshold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sluice.arrays import Floats, Ints
from sluice.documents.evaluation import Curves
from sluice.targets.curves import confusion, curves
from sluice.targets.kind import AnswerField, Fault, LabelCodes, Outcomes, Pictures, TargetKind, TrainingLoss
from sluice.targets.metric import Metric, share
from sluice.targets.probabilities import (
    SCORE_BINS,
    auc_of_counts,
    average_precision_of_counts,
    best_threshold,
    bins_of_equal_mass,
    calibration_covariates,
    entropies,
    exact_metrics,
    log_losses,
    resampled_ece,
    sigmoid,
)
from sluice.targets.sums import Summation, ratio

_METRICS = (
    share("auc", "AUC"),
    share("pr_auc", "PR-AUC"),
    Metric(name="log_loss", title="log loss"),
    Metric(name="ece", title="calibration error", high=1.0, noisy=True),
    share("precision", "precision"),
    share("recall", "recall"),
)


class Binary(TargetKind):
    """One class or the other; predictions are (n, 1) probabilities of the positive one."""

    shares = ("auc", "pr_auc", "ece", "precision", "recall")
    numbers = ("log_loss",)
    loss_names = ("log_loss",)
    kind: Literal["binary"] = "binary"

    @property
    def label_type(self) -> pl.DataType:
        """0 or 1."""
        return pl.Int8()

    def label_fault(self, labels: pl.Series) -> Fault | None:
        """Anything but 0 and 1."""
        if not labels.dtype.is_numeric():
            return Fault(f"labels of type {labels.dtype}, not 0 and 1", "say in Task.target of which kind they are")
        if labels.cast(pl.Float64).is_in([0.0, 1.0]).all():
            return None
        rule = f"labels from {labels.min()!r} to {labels.max()!r}"
        return Fault(rule, "ask a question of yes or no: a label is 0 or 1, or null where none ever comes")

    def split_fault(self, labels: pl.Series) -> Fault | None:
        """One class only."""
        if labels.n_unique() > 1:
            return None
        return Fault(f"one class only (label {labels[0]:.0f})", "widen its window")

    @property
    def variety(self) -> str:
        """Both."""
        return "0 and 1"

    @property
    def domain(self) -> tuple[int | str, ...]:
        """Both."""
        return (0, 1)

    def codes(self, labels: pl.Series) -> Ints:
        """(n,) 0 or 1."""
        return labels.cast(pl.Int64).to_numpy()

    def positives(self, labels: LabelCodes) -> int:
        """Rows of label 1."""
        return int(labels.sum())

    @property
    def outputs(self) -> int:
        """The logit of the positive class."""
        return 1

    @property
    def training_loss(self) -> TrainingLoss:
        """Log loss."""
        return TrainingLoss("logistic", balanced=True)

    def link(self, raw: Floats) -> Floats:
        """The logistic function."""
        if raw.shape != (1, 1):
            return sigmoid(raw)
        logit = raw.item()  # one row in a tenth of the time
        small = math.exp(-abs(logit))
        return np.array([[(1.0 if logit >= 0 else small) / (1.0 + small)]])

    @property
    def columns(self) -> tuple[str, ...]:
        """The probability of the positive class."""
        return ("score",)

    @property
    def answer_words(self) -> str:
        """For the card."""
        return "a probability"

    @property
    def noun(self) -> str:
        """Between 0 and 1."""
        return "probabilities (NaN or outside 0 to 1)"

    def are_predictions(self, predictions: Floats) -> NDArray[np.bool_]:
        """Between 0 and 1."""
        scores = predictions[:, 0]
        return np.asarray((scores >= 0) & (scores <= 1))

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Precision and recall are those at the threshold."""
        return _METRICS

    @property
    def loss_metric(self) -> str:
        """In nats."""
        return "log_loss"

    @property
    def ranking(self) -> str:
        """A baseline need not be calibrated to be hard to beat."""
        return "auc"

    @property
    def headline(self) -> tuple[str, ...]:
        """How it ranks, its loss, how honest it is."""
        return ("auc", "log_loss", "ece")

    def losses(self, labels: LabelCodes, predictions: Floats) -> Floats:
        """The log loss of each row."""
        return log_losses(labels, predictions[:, 0])

    def expected_losses(self, predictions: Floats) -> Floats:
        """The entropy of each score."""
        return entropies(predictions[:, 0])

    def groups(self, predictions: Floats) -> Ints:
        """(n,) the bin of each score."""
        return bins_of_equal_mass(predictions[:, 0], SCORE_BINS)

    def exact(self, outcomes: Outcomes) -> dict[str, float]:
        """From distinct scores; one class only leaves log loss and calibration error."""
        return exact_metrics(outcomes.labels, outcomes.predictions[:, 0], _cut(outcomes))

    def resampled(self, outcomes: Outcomes, sums: Summation) -> dict[str, Floats]:
        """From binned scores."""
        truth, scores = outcomes.labels, outcomes.predictions[:, 0]
        bins = self.groups(outcomes.predictions) if outcomes.groups is None else outcomes.groups
        hits, misses = sums.pairs(bins, SCORE_BINS, truth)
        flagged = scores >= _cut(outcomes)
        caught = sums.total(truth * flagged)
        return {
            "auc": auc_of_counts(hits, misses),
            "pr_auc": average_precision_of_counts(hits, misses),
            "log_loss": ratio(sums.total(log_losses(truth, scores)), sums.total(np.ones(truth.size))),
            "ece": resampled_ece(scores, truth, sums),
            "precision": ratio(caught, sums.total(flagged.astype(np.float64))),
            "recall": ratio(caught, sums.total(truth)),
        }

    def threshold(self, labels: LabelCodes, predictions: Floats) -> float:
        """That of the highest F1."""
        return best_threshold(labels, predictions[:, 0])

    @property
    def unknown_threshold(self) -> float:
        """Half-way."""
        return 0.5

    def constant(self, labels: LabelCodes) -> Floats:
        """The base rate, in the numbers that a network is trained on: of 32 bits."""
        return np.array([float(labels.astype(np.float32).mean())])

    def pictures(self, labels: LabelCodes, predictions: Floats | None, threshold: float | None) -> Pictures:
        """ROC, precision against recall, reliability, and the four counts."""
        if predictions is None or threshold is None:
            return Pictures(Curves(roc=(), precision_recall=(), reliability=()))
        scores = predictions[:, 0]
        return Pictures(curves(labels, scores, threshold), confusion(labels, scores, threshold))

    @property
    def answers(self) -> tuple[AnswerField, ...]:
        """The probability of the positive class, and whether it reaches the threshold."""
        return (AnswerField("score", "FP64"), AnswerField("positive", "BOOL"))

    def answer(self, predictions: Floats, threshold: float | None) -> dict[str, list[Any]]:
        """As of ``answers``."""
        scores: list[float] = predictions[:, 0].tolist()
        cut = self.unknown_threshold if threshold is None else threshold
        return {"score": scores, "positive": [score >= cut for score in scores]}

    def shift(self, ours: Floats, theirs: Floats) -> Floats:
        """Distance of both scores."""
        return np.asarray(np.abs(ours - theirs)[:, 0])

    def agreement(
        self, ours: Floats, theirs: Floats, thresholds: tuple[float | None, float | None]
    ) -> NDArray[np.bool_]:
        """The same side of each model's own threshold."""
        first, second = (0.5 if threshold is None else threshold for threshold in thresholds)
        return np.asarray((ours[:, 0] >= first) == (theirs[:, 0] >= second))

    def covariates(self, labels: LabelCodes, predictions: Floats) -> Mapping[str, Floats]:
        """Derivatives of the log loss by a shift and a stretch of the logits."""
        return calibration_covariates(labels.astype(np.float64), predictions[:, 0])


def _cut(outcomes: Outcomes) -> float:
    return 0.5 if outcomes.threshold is None else outcomes.threshold
