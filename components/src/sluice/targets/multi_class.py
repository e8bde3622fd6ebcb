"""One of several classes: a label that names its class, a logit and a probability a class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, field_validator

from sluice.arrays import Floats, Ints
from sluice.documents.evaluation import ConfusionTable, Picture, ReliabilityCurve
from sluice.targets.curves import reliability
from sluice.targets.kind import (
    AnswerField,
    Fault,
    LabelCodes,
    Outcomes,
    Pictures,
    TargetKind,
    TrainingLoss,
    checked_names,
)
from sluice.targets.metric import Metric, share
from sluice.targets.probabilities import CLIP, are_shares, resampled_ece
from sluice.targets.sums import Summation, ratio

_PER_CLASS = 40
"""With more classes there are no metrics of each: its slice says as much."""
_CURVES = 10
_SUM = 1e-3
"""By how much the probabilities of a row may miss 1."""


class MultiClass(TargetKind):
    """Exactly one of ``classes``; predictions are (n, k) probabilities that sum to 1, in their order."""

    shares = ("accuracy", "macro_f1", "top_<n>", "ece", "recall[<name>]", "ece[<name>]")
    numbers = ("log_loss",)
    loss_names = ("log_loss",)
    kind: Literal["multi-class"] = "multi-class"
    classes: tuple[str, ...] = Field(min_length=2, max_length=1000)
    top: int = Field(default=3, ge=2)
    """``top_<top>`` is the share of rows whose class is among so many likeliest; there where there are more classes."""

    _names = field_validator("classes")(checked_names)

    @property
    def label_type(self) -> pl.DataType:
        """The name of the class."""
        return pl.String()

    def label_fault(self, labels: pl.Series) -> Fault | None:
        """A class that is none of ``classes``."""
        if labels.dtype != pl.String:
            return Fault(f"labels of type {labels.dtype}, not the names of classes", "let read_examples give names")
        unseen = labels.filter(~labels.is_in(list(self.classes)))
        if unseen.is_empty():
            return None
        rule = f"label {unseen[0]!r:.60} in {len(unseen)} of {len(labels)} rows, which is none of the classes"
        return Fault(rule, "mend read_examples, or add it to the target's classes")

    def split_fault(self, labels: pl.Series) -> Fault | None:
        """A class without rows."""
        present = set(labels.unique())
        absent = [name for name in self.classes if name not in present]
        return (
            Fault(f"no row of class {absent[0]!r:.60}", "widen its window, or take the class out") if absent else None
        )

    @property
    def variety(self) -> str:
        """More than one."""
        return "several classes"

    @property
    def domain(self) -> tuple[int | str, ...]:
        """The classes."""
        return self.classes

    def codes(self, labels: pl.Series) -> Ints:
        """(n,) place of the class in ``classes``."""
        return labels.cast(pl.Enum(self.classes)).to_physical().cast(pl.Int64).to_numpy()

    @property
    def outputs(self) -> int:
        """A logit a class."""
        return len(self.classes)

    @property
    def training_loss(self) -> TrainingLoss:
        """Log loss."""
        return TrainingLoss("softmax")

    def link(self, raw: Floats) -> Floats:
        """Softmax."""
        powers = np.exp(raw - raw.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    @property
    def columns(self) -> tuple[str, ...]:
        """The classes."""
        return self.classes

    @property
    def answer_words(self) -> str:
        """For the card."""
        return f"a probability for each of {len(self.classes)} classes"

    @property
    def noun(self) -> str:
        """Between 0 and 1, and 1 together."""
        return "probabilities (NaN, outside 0 to 1, or their sum is not 1)"

    def are_predictions(self, predictions: Floats) -> NDArray[np.bool_]:
        """Between 0 and 1, and 1 together."""
        with np.errstate(invalid="ignore", over="ignore"):
            whole = np.abs(predictions.sum(axis=1) - 1) <= _SUM
        return np.asarray(are_shares(predictions) & whole)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Overall, then of each class."""
        overall = (
            share("accuracy", "accuracy"),
            share("macro_f1", "macro F1"),
            Metric(name="log_loss", title="log loss"),
            *([share(f"top_{self.top}", f"top-{self.top} accuracy")] if self.top < len(self.classes) else []),
            Metric(name="ece", title="calibration error", high=1.0, noisy=True),
        )
        if len(self.classes) > _PER_CLASS:
            return overall
        recalls = (share(f"recall[{name}]", f"recall of class {name}", whole=True) for name in self.classes)
        return (*overall, *recalls, *(_class_error(name) for name in self.classes))

    @property
    def loss_metric(self) -> str:
        """In nats."""
        return "log_loss"

    @property
    def ranking(self) -> str:
        """Finer than the share of right answers."""
        return "log_loss"

    @property
    def headline(self) -> tuple[str, ...]:
        """How it ranks, its loss, how honest it is."""
        return ("accuracy", "log_loss", "ece")

    def losses(self, labels: LabelCodes, predictions: Floats) -> Floats:
        """Minus the logarithm of the probability of the class that it is."""
        return np.asarray(-np.log(np.clip(_of_label(labels, predictions), CLIP, 1.0)))

    def expected_losses(self, predictions: Floats) -> Floats:
        """The entropy of the probabilities."""
        return np.asarray(-(predictions * np.log(np.clip(predictions, CLIP, 1.0))).sum(axis=1))

    def exact(self, outcomes: Outcomes) -> dict[str, float]:
        """As ``resampled``; F1 needs rows of several classes."""
        values = super().exact(outcomes)
        alone = np.unique(outcomes.labels).size < 2
        return {name: value for name, value in values.items() if not (alone and name == "macro_f1")}

    def resampled(self, outcomes: Outcomes, sums: Summation) -> dict[str, Floats]:
        """The likeliest class of several equal ones is the first."""
        labels, predictions = outcomes.labels, outcomes.predictions
        answers, size = predictions.argmax(axis=1), len(self.classes)
        right = answers == labels
        n = sums.total(np.ones(labels.size))
        hits = sums.by(labels, size, right.astype(np.float64))
        rows, answered = (sums.by(codes, size, np.ones(labels.size)) for codes in (labels, answers))
        own = _of_label(labels, predictions)
        before = (predictions > own[:, np.newaxis]).sum(axis=1)
        means = {
            "accuracy": hits.sum(axis=-1),
            "log_loss": sums.total(self.losses(labels, predictions)),
            f"top_{self.top}": sums.total((before < self.top).astype(np.float64)),
        }
        measures = {name: ratio(total, n) for name, total in means.items()}
        measures["macro_f1"] = mean_f1(hits, rows, answered, np.isin(np.arange(size), labels))
        measures["ece"] = resampled_ece(predictions.max(axis=1), right.astype(np.int64), sums)
        known = {metric.name for metric in self.metrics}
        measures = {name: measures[name] for name in measures if name in known}
        if outcomes.whole and len(self.classes) <= _PER_CLASS:
            recalls = ratio(hits, rows)
            for code, name in enumerate(self.classes):
                measures[f"recall[{name}]"] = recalls[..., code]
                measures[f"ece[{name}]"] = resampled_ece(predictions[:, code], (labels == code).astype(np.int64), sums)
        return measures

    def constant(self, labels: LabelCodes) -> Floats:
        """The share of each class."""
        return np.bincount(labels.astype(np.int64), minlength=len(self.classes)) / len(labels)

    @property
    def slice_name(self) -> str:
        """Each class is a slice, in which accuracy is its recall."""
        return "class"

    def slices(self, labels: LabelCodes) -> Iterator[tuple[str, Ints]]:
        """The classes that occur."""
        for code in np.unique(labels):
            yield self.classes[int(code)], np.flatnonzero(labels == code)

    def pictures(self, labels: LabelCodes, predictions: Floats | None, threshold: float | None) -> Pictures:  # noqa: ARG002
        """Confusion by class, reliability of the likeliest class and of each."""
        if predictions is None:
            return Pictures()
        size, answers = len(self.classes), predictions.argmax(axis=1)
        table = np.bincount(labels * size + answers, minlength=size * size).reshape(size, size)
        confusion = ConfusionTable(classes=self.classes, rows=tuple(map(tuple, table.tolist())))
        sure = reliability((answers == labels).astype(np.int64), predictions.max(axis=1))
        figures: list[Picture] = [confusion, ReliabilityCurve(name="the likeliest class", bins=sure)]
        if size <= _CURVES:
            columns = ((name, code, predictions[:, code]) for code, name in enumerate(self.classes))
            figures += [
                ReliabilityCurve(name=name, bins=reliability((labels == code).astype(np.int64), scores))
                for name, code, scores in columns
            ]
        return Pictures(pictures=tuple(figures))

    @property
    def answers(self) -> tuple[AnswerField, ...]:
        """The likeliest class, and all probabilities."""
        return (AnswerField("class", "BYTES"), AnswerField("probabilities", "FP64", len(self.classes)))

    def answer(self, predictions: Floats, threshold: float | None) -> dict[str, list[Any]]:  # noqa: ARG002
        """As of ``answers``."""
        names = [self.classes[code] for code in predictions.argmax(axis=1)]
        return {"class": names, "probabilities": predictions.tolist()}

    def shift(self, ours: Floats, theirs: Floats) -> Floats:
        """Total variation: the largest difference that any set of classes has."""
        return np.asarray(np.abs(ours - theirs).sum(axis=1) / 2)

    def agreement(
        self,
        ours: Floats,
        theirs: Floats,
        thresholds: tuple[float | None, float | None],  # noqa: ARG002
    ) -> NDArray[np.bool_]:
        """The same class."""
        return np.asarray(ours.argmax(axis=1) == theirs.argmax(axis=1))

    def covariates(self, labels: LabelCodes, predictions: Floats) -> Mapping[str, Floats]:
        """What the class that it is lacked, and the derivative of the log loss by a stretch of the logits."""
        logs = np.log(np.clip(predictions, CLIP, 1.0))
        stretch = _of_label(labels, logs) - (predictions * logs).sum(axis=1)
        return {"residual": 1 - _of_label(labels, predictions), "residual_logit": stretch}


def _of_label(labels: LabelCodes, values: Floats) -> Floats:
    """(n,) each row's value of the class that it is."""
    return np.asarray(np.take_along_axis(values, labels[:, np.newaxis].astype(np.intp), axis=1)[:, 0])


def _class_error(name: str) -> Metric:
    return Metric(name=f"ece[{name}]", title=f"calibration error of class {name}", high=1.0, noisy=True, whole=True)


def mean_f1(hits: Floats, rows: Floats, answered: Floats, labelled: NDArray[np.bool_]) -> Floats:
    """
    Macro F1: the mean of F1 = 2 hits / (rows + answers) over the classes that occur in labels or answers.

    Args:
        hits, rows, answered: (..., k) right answers, labels and answers of each class.
        labelled: (k,) whether the class occurs in labels at all; a resample that lost one has no macro F1.

    Returns:
        (...,).
    """
    scores = ratio(2 * hits, rows + answered)
    scores = np.where(labelled | np.isfinite(scores), scores, 0.0)
    occurs = labelled | (answered.reshape(-1, labelled.size).sum(axis=0) > 0)
    return np.asarray(scores[..., occurs].mean(axis=-1)) if occurs.any() else np.full(hits.shape[:-1], np.nan)
