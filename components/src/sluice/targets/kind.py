"""
What a kind of target says: its labels, a model's outputs, losses, metrics, baselines, pictures, answers.

Shapes: labels (n,) or (n, k) of what ``codes`` gives; raw outputs of a model float64 (n, ``outputs``); predictions
float64 (n, k'), a column for each of ``columns``. A kind is a frozen document with its name in ``kind``, so that others
can read what a model was evaluated as without the task.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sluice.arrays import Floats, Ints
from sluice.documents.evaluation import Confusion, Curves, Picture
from sluice.documents.model import FrozenDocument
from sluice.targets.metric import Metric
from sluice.targets.sums import RowSums, Summation

LabelCodes = NDArray[Any]
_LONGEST_NAME = 100
PRIOR_ROWS = 20.0
"""Weight of all rows' constant in a group's, in rows: small groups lean on it."""


def checked_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """
    Names of classes or labels, as they are.

    Raises:
        ValueError: one is empty, too long, not printable, or there twice.
    """
    for name in names:
        if not name.strip() or len(name) > _LONGEST_NAME or not name.isprintable():
            raise ValueError(f"{name!r:.60} is no name of 1 to {_LONGEST_NAME} printable characters")
        if names.count(name) > 1:
            raise ValueError(f"{name!r:.60} is there twice")
    return names


class Fault(NamedTuple):
    """What is wrong with labels, and what to do about it; ``rule`` follows "gives" or "has"."""

    rule: str
    fix: str


class AnswerField(NamedTuple):
    """One output of a server: its name, its type as the Open Inference Protocol calls it, values a row."""

    name: str
    datatype: str
    size: int = 1


LossName = Literal["logistic", "softmax", "squared", "absolute", "pinball", "poisson"]
"""Losses that models can be trained by: ``sluice.training.loss_forms`` has each for Keras and for XGBoost."""


class TrainingLoss(NamedTuple):
    """
    What models minimize.

    Attributes:
        name: the loss.
        quantiles: of pinball.
        balanced: whether networks see both classes as heavy while they learn; it is taken back afterwards.
    """

    name: LossName
    quantiles: tuple[float, ...] = ()
    balanced: bool = False


class Outcomes(NamedTuple):
    """
    Rows, and what a model said of them.

    Attributes:
        labels: (n,) or (n, k). predictions: (n, k'), finite.
        threshold: where the kind has one.
        groups: of ``TargetKind.groups``, (n, ...), or ``None`` where it is still to be worked out.
        whole: whether these are all rows, not a slice.
    """

    labels: LabelCodes
    predictions: Floats
    threshold: float | None = None
    groups: Ints | None = None
    whole: bool = True


class Pictures(NamedTuple):
    """What is drawn of one model: fields of an evaluation of these names."""

    curves: Curves | None = None
    confusion: Confusion | None = None
    pictures: tuple[Picture, ...] = ()


class TargetKind(FrozenDocument):
    """One kind of target."""

    shares: ClassVar[tuple[str, ...]] = ()
    """Names of metrics from 0 to 1 that the kind can have, ``<n>`` and ``<name>`` for a number and a name in them."""
    numbers: ClassVar[tuple[str, ...]] = ()
    """The same of all others."""
    loss_names: ClassVar[tuple[str, ...]] = ()
    """Every name that ``loss_metric`` can be."""
    kind: str

    # Labels

    @property
    @abstractmethod
    def label_type(self) -> pl.DataType:
        """Of the column ``label`` of a span."""

    @abstractmethod
    def label_fault(self, labels: pl.Series) -> Fault | None:
        """What is wrong with the labels of some rows, none of them null; ``None`` where nothing is."""

    def split_fault(self, labels: pl.Series) -> Fault | None:
        """What keeps a model from learning from these labels, which are all right one by one."""
        if labels.n_unique() > 1:
            return None
        return Fault(f"one label only ({labels[0]!r})", "widen its window")

    @property
    def variety(self) -> str:
        """What the labels of a split should be, for people."""
        return "labels that differ"

    @property
    def domain(self) -> tuple[int | str, ...] | None:
        """Every value that a label can have, where these are few."""
        return None

    @abstractmethod
    def codes(self, labels: pl.Series) -> LabelCodes:
        """Labels as numbers: (n,) or (n, k). Nulls, and what ``label_fault`` names, must not be among them."""

    def positives(self, labels: LabelCodes) -> int | None:  # noqa: ARG002
        """Rows of the positive class; ``None`` where there is no such class."""
        return None

    # Models

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Raw outputs of a model."""

    @property
    @abstractmethod
    def training_loss(self) -> TrainingLoss:
        """What models minimize to get ``losses`` down."""

    @abstractmethod
    def link(self, raw: Floats) -> Floats:
        """Raw outputs (n, ``outputs``) to predictions (n, k')."""

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """What each column of a prediction is of."""

    @property
    @abstractmethod
    def answer_words(self) -> str:
        """What a model answers with, for people."""

    @property
    @abstractmethod
    def noun(self) -> str:
        """What predictions are, in the plural: "probabilities (NaN or outside 0 to 1)" follows "are not"."""

    @abstractmethod
    def are_predictions(self, predictions: Floats) -> NDArray[np.bool_]:
        """(n,) whether a row (n, k') is a prediction at all."""

    # Metrics

    @property
    @abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """In the order in which people expect them."""

    @property
    @abstractmethod
    def loss_metric(self) -> str:
        """The metric that is the mean of ``losses``: default in policies."""

    @property
    @abstractmethod
    def ranking(self) -> str:
        """The metric that says which baseline is the best."""

    @property
    @abstractmethod
    def headline(self) -> tuple[str, ...]:
        """Three metrics that stand for all where there is little room."""

    @abstractmethod
    def losses(self, labels: LabelCodes, predictions: Floats) -> Floats:
        """(n,) the loss of each row; labels as of ``codes``, or the same in float32."""

    def expected_losses(self, predictions: Floats) -> Floats | None:  # noqa: ARG002
        """(n,) the loss to be expected were the predictions true; ``None`` where they say nothing of it."""
        return None

    def groups(self, predictions: Floats) -> Ints | None:  # noqa: ARG002
        """What ``resampled`` needs of all rows of a model at once, (n, ...): worked out once for all slices."""
        return None

    def exact(self, outcomes: Outcomes) -> dict[str, float]:
        """Every metric that is defined on these rows."""
        if not len(outcomes.labels):
            return {}
        values = self.resampled(outcomes, RowSums())
        return {name: float(value) for name, value in values.items() if np.isfinite(value)}

    @abstractmethod
    def resampled(self, outcomes: Outcomes, sums: Summation) -> dict[str, Floats]:
        """Every metric by these sums, (...,) each; NaN where it is not defined."""

    def threshold(self, labels: LabelCodes, predictions: Floats) -> float | None:  # noqa: ARG002
        """The best threshold on these rows; ``None`` where a decision has none."""
        return None

    @property
    def unknown_threshold(self) -> float | None:
        """What stands where no best one can be told."""
        return None

    # Baselines

    @abstractmethod
    def constant(self, labels: LabelCodes) -> Floats:
        """(k',) the best prediction for rows of which nothing is known."""

    def by_group(self, labels: LabelCodes, groups: Ints, size: int) -> Floats:
        """(size, k') the best prediction for each group of rows; small ones lean on ``constant``."""
        prior = self.constant(labels)
        columns = labels.reshape(len(labels), -1) if labels.ndim > 1 or prior.size == 1 else np.eye(prior.size)[labels]
        counts = np.bincount(groups, minlength=size)[:, np.newaxis]
        sums = np.stack([np.bincount(groups, weights=column, minlength=size) for column in columns.T], axis=1)
        return np.asarray((sums + PRIOR_ROWS * prior) / (counts + PRIOR_ROWS))

    # Slices and pictures

    @property
    def slice_name(self) -> str | None:
        """How the slices of ``slices`` are called, which no slice of a task may be then."""
        return None

    def slices(self, labels: LabelCodes) -> Iterator[tuple[str, Ints]]:  # noqa: ARG002
        """Slices by label: the value, and the rows (indices) that have it."""
        return iter(())

    @abstractmethod
    def pictures(self, labels: LabelCodes, predictions: Floats | None, threshold: float | None) -> Pictures:
        """What is drawn of a model; of none that can be measured, nothing."""

    # Online

    @property
    @abstractmethod
    def answers(self) -> tuple[AnswerField, ...]:
        """What a server answers."""

    @property
    def prediction_answer(self) -> AnswerField:
        """The answer that is the whole prediction: the one of most numbers."""
        return max((field for field in self.answers if field.datatype == "FP64"), key=lambda field: field.size)

    @abstractmethod
    def answer(self, predictions: Floats, threshold: float | None) -> dict[str, list[Any]]:
        """Values of ``answers`` for predictions (n, k'): n each, lists where a field has several values a row."""

    @abstractmethod
    def shift(self, ours: Floats, theirs: Floats) -> Floats:
        """(n,) how far two predictions (n, k') of a request are apart."""

    @abstractmethod
    def agreement(
        self, ours: Floats, theirs: Floats, thresholds: tuple[float | None, float | None]
    ) -> NDArray[np.bool_] | None:
        """(n,) whether two models would do the same; ``None`` where nobody can say."""

    @property
    def can_agree(self) -> bool:
        """Whether anybody can say that two models would do the same."""
        none = np.empty((0, len(self.columns)))
        return self.agreement(none, none, (None, None)) is not None

    @abstractmethod
    def covariates(self, labels: LabelCodes, predictions: Floats) -> Mapping[str, Floats]:
        """(n,) each: how wrong a model was on a row, by which blocks of event time are adjusted."""

    @property
    def covariate_names(self) -> tuple[str, ...]:
        """Of ``covariates``, in their order."""
        labels = self.codes(pl.Series([], dtype=self.label_type))
        return tuple(self.covariates(labels, np.empty((0, len(self.columns)))))
