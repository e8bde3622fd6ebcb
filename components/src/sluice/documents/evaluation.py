"""The evaluation of one model on one holdout, as a document: every number with its n and its interval."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from sluice.documents.loss_history import LossHistory
from sluice.documents.model import FrozenDocument

_BINARY = {"kind": "binary"}


def _absent(value: object) -> bool:
    return value is None or value == ()


class Estimate(FrozenDocument):
    """A value with the ends of its 95 % interval and the rows behind it."""

    value: float
    low: float
    high: float
    n: int

    def __neg__(self) -> Estimate:
        """The same difference the other way round."""
        return Estimate(value=0.0 - self.value, low=0.0 - self.high, high=0.0 - self.low, n=self.n)


class SliceEvaluation(FrozenDocument):
    """Quality in one slice, and the differences to the peers there (candidate minus peer)."""

    slice: str
    """Name of the partition, as the task calls it."""
    value: str
    """For example ``VX``."""
    n: int
    positives: int | None = Field(default=None, exclude_if=_absent)
    """Rows of the positive class; absent where the target has none."""
    metrics: dict[str, Estimate]
    """A metric that is not defined here (one class only) or has no interval (too few days) is absent."""
    versus_production: dict[str, Estimate] = {}
    versus_baseline: dict[str, Estimate] = {}
    """Candidate minus the best baseline."""
    versus_teacher: dict[str, Estimate] = {}


class Peer(FrozenDocument):
    """Another model on the same rows: a baseline, the teacher, or production. ``difference`` = candidate minus peer."""

    name: str
    digest: str | None = None
    metrics: dict[str, Estimate]
    difference: dict[str, Estimate]


class CalibrationBin(FrozenDocument):
    """One bar of the reliability curve: mean score against the observed rate, with a 95 % Wilson interval."""

    mean_score: float
    rate: float
    low: float
    high: float
    n: int


class Curves(FrozenDocument):
    """Points to draw, at most 200 a curve."""

    roc: tuple[tuple[float, float], ...]
    """(false positive rate, true positive rate)."""
    roc_thresholds: tuple[float, ...] = ()
    """The score from which each point of ``roc`` counts as positive; that of the model is one of them."""
    precision_recall: tuple[tuple[float, float], ...]
    """(recall, precision)."""
    reliability: tuple[CalibrationBin, ...]


class Confusion(FrozenDocument):
    """Rows of the holdout by label and by decision at the threshold."""

    true_negatives: int
    false_positives: int
    false_negatives: int
    true_positives: int

    @property
    def rows(self) -> list[list[int]]:
        """By label, each by decision, negatives first."""
        return [[self.true_negatives, self.false_positives], [self.false_negatives, self.true_positives]]


class ConfusionTable(FrozenDocument):
    """Rows of the holdout by class and by the likeliest class; ``rows`` by label, each by prediction."""

    picture: Literal["confusion"] = "confusion"
    classes: tuple[str, ...]
    rows: tuple[tuple[int, ...], ...]


class ReliabilityCurve(FrozenDocument):
    """The reliability curve of one class or label against all others."""

    picture: Literal["reliability"] = "reliability"
    name: str
    bins: tuple[CalibrationBin, ...]


class ValueBin(FrozenDocument):
    """Rows of about the same prediction: their means, and where the residuals (label minus prediction) lie."""

    mean_prediction: float
    mean_label: float
    low: float
    high: float
    """The 95 % interval of the mean label, its rows taken as independent."""
    residuals: tuple[float, float, float, float, float]
    """Quantiles 0.05, 0.25, 0.5, 0.75, 0.95."""
    n: int


class ValueBins(FrozenDocument):
    """Predicted against actual numbers, by tenths of the predictions, ascending."""

    picture: Literal["values"] = "values"
    bins: tuple[ValueBin, ...]


Picture = Annotated[ConfusionTable | ReliabilityCurve | ValueBins, Field(discriminator="picture")]


class TaskMetric(FrozenDocument):
    """A metric that a task brought along; names and meaning as in ``sluice.targets.metric``."""

    name: str
    title: str
    higher: bool = False


class Evaluation(FrozenDocument):
    """
    One model on one holdout.

    Metric names: those of the target's kind. Binary: ``auc, pr_auc, log_loss, ece, precision, recall`` (the last two at
    ``threshold``).
    Intervals: bootstrap over days of event time, which keeps rows of one day together, and days in a row that depend.
    """

    model: str
    """Variant name."""
    window: tuple[str, str]
    target: dict[str, Any] = Field(default=_BINARY, exclude_if=lambda value: value == _BINARY)
    """The kind of target, as a document of ``sluice.targets``; absent where it is binary."""
    task_metrics: tuple[TaskMetric, ...] = Field(default=(), exclude_if=_absent)
    """What else was measured, by functions of the task."""
    loss: str | None = Field(default=None, exclude_if=_absent)
    """The metric of them that is the loss instead of the kind's."""
    n: int
    positives: int | None = Field(default=None, exclude_if=_absent)
    """Rows of the positive class; absent where the target has none."""
    threshold: float | None = Field(default=None, exclude_if=_absent)
    """Absent where a decision has none."""
    metrics: dict[str, Estimate]
    slices: tuple[SliceEvaluation, ...]
    baselines: tuple[Peer, ...]
    best_baseline: str | None
    """The baseline that ranks highest (binary: by AUC) on this very holdout: the hardest one to beat."""
    teacher: Peer | None
    production: Peer | None
    curves: Curves | None = Field(default=None, exclude_if=_absent)
    """Of a binary target."""
    confusion: Confusion | None = None
    pictures: tuple[Picture, ...] = Field(default=(), exclude_if=_absent)
    """Of other kinds."""
    bootstrap: dict[str, int | float]
    """
    ``resamples``, ``days``, ``seed``, ``mean_run_days``: of days that were drawn together, and
    ``production_mean_run_days``: the same for what is against production. Absent in old documents: 1.
    """
    histories: tuple[LossHistory, ...] = ()
    """Loss against production by block, a length each, shortest first; none where there is none."""
    block_hours: float | None = None
    """The shortest of them whose blocks depend little on their neighbours; ``None`` where none does."""
    problems: tuple[str, ...] = ()
    """Why something could not be measured, for people: scores that are not finite."""


class VariantMeasurement(FrozenDocument):
    """One rung of the compression ladder on the common holdout."""

    name: str
    parameters: int
    bytes: int
    gzip_bytes: int
    metrics: dict[str, Estimate]
    versus_teacher: dict[str, Estimate]
    """Variant minus teacher."""
    latency_p50_us: float
    latency_p99_us: float
    """One row through the runtime that serves it, one thread."""
    format: str = Field(default="litert", exclude_if=lambda name: name == "litert")
    """Names the runtime (``sluice.models.runtime.FORMATS``); left out of the document where it is LiteRT."""
