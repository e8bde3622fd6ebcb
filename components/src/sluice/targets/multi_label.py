"""Any of several labels, or none: a list of names, a logit and a probability a label, one threshold for all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, field_validator

from sluice.arrays import Floats, Ints
from sluice.documents.evaluation import ReliabilityCurve
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
from sluice.targets.multi_class import mean_f1
from sluice.targets.probabilities import (
    SCORE_BINS,
    are_shares,
    auc_of_counts,
    best_threshold,
    bins_of_equal_mass,
    calibration_covariates,
    counts_by_score,
    entropies,
    log_losses,
    sigmoid,
)
from sluice.targets.sums import Summation, ratio

_PER_LABEL = 40
"""With more labels there are no metrics of each."""
_CURVES = 10


class MultiLabel(TargetKind):
    """
    Those of ``names`` that apply; predictions are (n, k) probabilities, in their order.

    A label is a list of names: ``[]`` where none applies, null where nobody will ever know. One column holds it, so
    that a row has its label as a whole or not at all.
    """

    shares = ("macro_auc", "macro_f1", "subset_accuracy", "auc[<name>]")
    numbers = ("log_loss", "log_loss[<name>]")
    loss_names = ("log_loss",)
    kind: Literal["multi-label"] = "multi-label"
    names: tuple[str, ...] = Field(min_length=1, max_length=1000)

    _names = field_validator("names")(checked_names)

    @property
    def label_type(self) -> pl.DataType:
        """A list of names."""
        return pl.List(pl.String())

    def label_fault(self, labels: pl.Series) -> Fault | None:
        """A name that is none of ``names``, or is there twice."""
        if labels.dtype != self.label_type:
            return Fault(f"labels of type {labels.dtype}, not lists of names", "let read_examples give lists of names")
        unseen = labels.explode().drop_nulls()
        unseen = unseen.filter(~unseen.is_in(list(self.names)))
        if len(unseen):
            rule = f"label {unseen[0]!r:.60}, which is none of the target's names"
            return Fault(rule, "mend read_examples, or add it to the target's names")
        odd = (labels.list.n_unique() < labels.list.len()) | labels.list.contains(None).fill_null(value=False)
        if odd.any():
            return Fault(f"a name twice, or null, in {odd.sum()} of {len(labels)} lists", "let a list name each once")
        return None

    def split_fault(self, labels: pl.Series) -> Fault | None:
        """A label that all rows have, or none."""
        counts = self.codes(labels).sum(axis=0)
        constant = [name for name, count in zip(self.names, counts, strict=True) if not 0 < count < len(labels)]
        if not constant:
            return None
        return Fault(f"label {constant[0]!r:.60} in all rows or in none", "widen its window, or take the label out")

    @property
    def variety(self) -> str:
        """More than one list."""
        return "lists that differ"

    def codes(self, labels: pl.Series) -> Ints:
        """(n, k) 0 or 1."""
        lists = pl.DataFrame({"label": labels})
        flags = lists.select(
            pl.col("label").list.contains(name).cast(pl.Int64).alias(str(i)) for i, name in self._places()
        )
        return flags.to_numpy().reshape(len(labels), len(self.names))

    def _places(self) -> Iterator[tuple[int, str]]:
        return iter(enumerate(self.names))

    @property
    def outputs(self) -> int:
        """A logit a label."""
        return len(self.names)

    @property
    def training_loss(self) -> TrainingLoss:
        """Log loss of each label."""
        return TrainingLoss("logistic")

    def link(self, raw: Floats) -> Floats:
        """The logistic function of each."""
        return sigmoid(raw)

    @property
    def columns(self) -> tuple[str, ...]:
        """The labels."""
        return self.names

    @property
    def answer_words(self) -> str:
        """For the card."""
        return f"a probability for each of {len(self.names)} labels"

    @property
    def noun(self) -> str:
        """Between 0 and 1."""
        return "probabilities (NaN or outside 0 to 1)"

    def are_predictions(self, predictions: Floats) -> NDArray[np.bool_]:
        """Between 0 and 1."""
        return are_shares(predictions)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Overall, then of each label; F1 and subset accuracy are those at the threshold."""
        overall = (
            share("macro_auc", "macro AUC"),
            share("macro_f1", "macro F1"),
            share("subset_accuracy", "subset accuracy"),
            Metric(name="log_loss", title="log loss"),
        )
        if len(self.names) > _PER_LABEL:
            return overall
        rankings = (share(f"auc[{name}]", f"AUC of label {name}", whole=True) for name in self.names)
        return (*overall, *rankings, *(_label_loss(name) for name in self.names))

    @property
    def loss_metric(self) -> str:
        """In nats, the mean over labels."""
        return "log_loss"

    @property
    def ranking(self) -> str:
        """Finer than decisions."""
        return "log_loss"

    @property
    def headline(self) -> tuple[str, ...]:
        """How it ranks, its loss, how honest it is."""
        return ("macro_auc", "log_loss", "subset_accuracy")

    def losses(self, labels: LabelCodes, predictions: Floats) -> Floats:
        """The mean over labels of each one's log loss."""
        return np.asarray(log_losses(labels, predictions).mean(axis=1))

    def expected_losses(self, predictions: Floats) -> Floats:
        """The mean over labels of each one's entropy."""
        return np.asarray(entropies(predictions).mean(axis=1))

    def groups(self, predictions: Floats) -> Ints:
        """(n, k) the bin of each score."""
        return np.stack([bins_of_equal_mass(column, SCORE_BINS) for column in predictions.T], axis=1)

    def exact(self, outcomes: Outcomes) -> dict[str, float]:
        """As ``resampled``, but for ranking: by distinct scores, not by bins."""
        values = super().exact(outcomes)
        pairs = zip(outcomes.labels.T, outcomes.predictions.T, strict=True)
        areas = [float(auc_of_counts(*counts_by_score(label, scores)[1:])) for label, scores in pairs]
        defined = [area for area in areas if np.isfinite(area)]
        exact = {"macro_auc": float(np.mean(defined))} if defined else {}
        exact |= {f"auc[{self.names[place]}]": area for place, area in enumerate(areas) if np.isfinite(area)}
        return {name: exact.get(name, value) for name, value in values.items()}

    def resampled(self, outcomes: Outcomes, sums: Summation) -> dict[str, Floats]:
        """A resample that lost a label, or all rows without it, has no macro AUC."""
        labels, predictions = outcomes.labels, outcomes.predictions
        bins = self.groups(predictions) if outcomes.groups is None else outcomes.groups
        n = sums.total(np.ones(len(labels)))
        flags = (predictions >= _cut(outcomes.threshold)).astype(np.int64)
        losses = log_losses(labels, predictions)
        columns = range(len(self.names))
        areas = np.stack([auc_of_counts(*sums.pairs(bins[:, j], SCORE_BINS, labels[:, j])) for j in columns], axis=-1)
        both = (labels.min(axis=0) < labels.max(axis=0)) if len(labels) else np.zeros(len(self.names), bool)
        hits, rows, alarms = (_by_column(part, sums) for part in (labels * flags, labels, flags))
        values = {
            "macro_auc": areas[..., both].mean(axis=-1) if both.any() else np.full(areas.shape[:-1], np.nan),
            "macro_f1": mean_f1(hits, rows, alarms, np.asarray(labels.any(axis=0))),
            "subset_accuracy": ratio(sums.total((labels == flags).all(axis=1).astype(np.float64)), n),
            "log_loss": ratio(sums.total(losses.mean(axis=1)), n),
        }
        if outcomes.whole and len(self.names) <= _PER_LABEL:
            values |= {f"auc[{name}]": areas[..., place] for place, name in self._places()}
            values |= {f"log_loss[{name}]": ratio(sums.total(losses[:, place]), n) for place, name in self._places()}
        return values

    def threshold(self, labels: LabelCodes, predictions: Floats) -> float:
        """That of the highest F1 over all labels together."""
        return best_threshold(labels.ravel(), predictions.ravel())

    @property
    def unknown_threshold(self) -> float:
        """Half-way."""
        return 0.5

    def constant(self, labels: LabelCodes) -> Floats:
        """The rate of each label."""
        return np.asarray(labels.mean(axis=0))

    @property
    def slice_name(self) -> str:
        """Rows of each label are a slice."""
        return "label"

    def slices(self, labels: LabelCodes) -> Iterator[tuple[str, Ints]]:
        """The labels that occur; rows of several are in several."""
        for place, name in self._places():
            if labels[:, place].any():
                yield name, np.flatnonzero(labels[:, place])

    def pictures(self, labels: LabelCodes, predictions: Floats | None, threshold: float | None) -> Pictures:  # noqa: ARG002
        """Reliability by label."""
        if predictions is None:
            return Pictures()
        places = list(self._places())[:_CURVES]
        curves = (
            ReliabilityCurve(name=name, bins=reliability(labels[:, place], predictions[:, place]))
            for place, name in places
        )
        return Pictures(pictures=tuple(curves))

    @property
    def answers(self) -> tuple[AnswerField, ...]:
        """All probabilities."""
        return (AnswerField("probabilities", "FP64", len(self.names)),)

    def answer(self, predictions: Floats, threshold: float | None) -> dict[str, list[Any]]:  # noqa: ARG002
        """As of ``answers``."""
        return {"probabilities": predictions.tolist()}

    def shift(self, ours: Floats, theirs: Floats) -> Floats:
        """The mean distance over labels."""
        return np.asarray(np.abs(ours - theirs).mean(axis=1))

    def agreement(
        self, ours: Floats, theirs: Floats, thresholds: tuple[float | None, float | None]
    ) -> NDArray[np.bool_]:
        """The same decision on every label."""
        first, second = map(_cut, thresholds)
        return np.asarray(((ours >= first) == (theirs >= second)).all(axis=1))

    def covariates(self, labels: LabelCodes, predictions: Floats) -> Mapping[str, Floats]:
        """Means over labels of the derivatives of the log loss by a shift and a stretch of the logits."""
        errors = calibration_covariates(labels.astype(np.float64), predictions)
        return {name: np.asarray(values.mean(axis=1)) for name, values in errors.items()}


def _cut(threshold: float | None) -> float:
    return 0.5 if threshold is None else threshold


def _by_column(values: Ints, sums: Summation) -> Floats:
    """(..., k) the sums of each column of (n, k)."""
    return np.stack([sums.total(column) for column in values.T], axis=-1)


def _label_loss(name: str) -> Metric:
    return Metric(name=f"log_loss[{name}]", title=f"log loss of label {name}", whole=True)
