"""The evaluation of one model on one holdout, as a document: every number with its n and its interval."""

from __future__ import annotations

from sluice.documents.loss_history import LossHistory
from sluice.documents.model import FrozenDocument


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
    positives: int
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


class Evaluation(FrozenDocument):
    """
    One model on one holdout.

    Metric names: ``auc, pr_auc, log_loss, ece, precision, recall`` (the last two at ``threshold``).
    Intervals: bootstrap over days of event time, which keeps rows of one day together, and days in a row that depend.
    """

    model: str
    """Variant name."""
    window: tuple[str, str]
    n: int
    positives: int
    threshold: float
    metrics: dict[str, Estimate]
    slices: tuple[SliceEvaluation, ...]
    baselines: tuple[Peer, ...]
    best_baseline: str | None
    """The baseline with the highest AUC on this very holdout: the hardest one to beat."""
    teacher: Peer | None
    production: Peer | None
    curves: Curves
    confusion: Confusion | None = None
    bootstrap: dict[str, int | float]
    """
    ``resamples``, ``days``, ``seed``, ``mean_run_days``: of days that were drawn together, and
    ``production_mean_run_days``: the same for what is against production. Absent in old documents: 1.
    """
    histories: tuple[LossHistory, ...] = ()
    """Log loss against production by block, a length each, shortest first; none where there is none."""
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
