"""
What a look at live traffic has to go on: counts and moments with their n, never a bare number.

Everything but the timings repeats exactly when the same traffic is replayed; ``Evidence.digest`` covers just that part.
"""

from __future__ import annotations

from operator import not_
from typing import Annotated, Any

from pydantic import Field, model_validator

from sluice.content import digest_of_value
from sluice.documents.event_time import Moment
from sluice.documents.loss_history import LossHistory
from sluice.documents.minutes import Minutes, MinuteSums
from sluice.documents.model import Count, FiniteDocument, is_none
from sluice.documents.state import Applied

LATENCY_BOUNDS_MS: tuple[float, ...] = tuple(round(0.25 * 2 ** (step / 3), 4) for step in range(52))
"""
Upper ends of the latency bins, 0.25 ms to 32 s, each a quarter wider than the one before it: servers count in the same
bins, so that a log and a Prometheus say the same.
"""

LABEL_DELAY_BOUNDS_S: tuple[int, ...] = tuple(
    60 * minutes for minutes in (1, 5, 15, 60, 180, 360, 720, 1440, 2880, 4320, 10080, 20160, 43200)
)
"""Upper ends of the bins of a label's delay: a minute to thirty days."""

WORST_CELLS = 5
"""Features that evidence names where their served cells differ."""

SIDES = ("candidate", "stable")
"""The arms."""
ABOUT = ("task", "environment", "rollout", "stage", "step", "since")
"""Keys that say which stage of which rollout a document is about."""


class Moments(FiniteDocument):
    """n, mean and sample variance."""

    n: int = Field(ge=1)
    mean: float
    variance: float = Field(ge=0)


class Share(FiniteDocument):
    """``hits`` of ``n``."""

    n: int = Field(ge=1)
    hits: Count

    @model_validator(mode="after")
    def _counts_agree(self) -> Share:
        if self.hits > self.n:
            raise ValueError(f"hits is {self.hits}, of {self.n}")
        return self


class Histogram(FiniteDocument):
    """Counts in the bins that ``LATENCY_BOUNDS_MS`` ends; the last one is open: one count more than bounds."""

    counts: tuple[Count, ...] = Field(min_length=len(LATENCY_BOUNDS_MS) + 1, max_length=len(LATENCY_BOUNDS_MS) + 1)

    @property
    def n(self) -> int:
        """Observations."""
        return sum(self.counts)


class LabelDelays(FiniteDocument):
    """How long after its prediction each label was known, of the labels that are in: those to come are not in it."""

    counts: tuple[Count, ...] = Field(
        min_length=len(LABEL_DELAY_BOUNDS_S) + 1, max_length=len(LABEL_DELAY_BOUNDS_S) + 1
    )
    """In the bins that ``LABEL_DELAY_BOUNDS_S`` ends; the last one is open."""
    seconds: Annotated[float, Field(ge=0)]
    """Sum of the delays."""


class Imputed(FiniteDocument):
    """
    What a prediction-powered mean is made of (Angelopoulos et al., arXiv 2301.09633).

    The imputed loss of a request is its expected log loss if the score were the true probability: it needs no label.
    """

    every: Moments
    """Imputed loss of every mature request, labelled or not."""
    rectifier: Moments
    """Loss minus imputed loss, of the mature requests whose label is in."""


class Arm(FiniteDocument):
    """One digest's requests."""

    digest: str
    n: Count
    """Requests that reached it in this stage."""
    first: Moment | None
    last: Moment | None
    """Event times of its first and last request that was not refused."""
    errors: Count
    """Answers of 5xx, or without a finite score; with ``refused_alone``."""
    due: Count
    """Answered requests of the cohort that are old enough for their label."""
    labelled: Count
    """Those of ``due`` whose label is in."""
    loss: Moments | None
    """Log loss over the cohort's labelled requests."""
    stale: Count = 0
    """Answered requests with a feature that was missing or past its time to live."""
    restarts: Count | None = None
    """
    Times that its servers began anew in this stage; those within a minute are one, and what both sides share is none.
    ``None`` where nobody counts them.
    """
    hours: Annotated[float, Field(gt=0)] | None = None
    """Server hours over which ``restarts`` were counted."""
    delays: LabelDelays | None = None
    """Of ``loss``'s labels; for people who watch, no rule reads it."""
    refused: Annotated[Count, Field(exclude_if=not_)] = 0
    """Requests that its servers answered with 4xx, since they break the contract."""
    refused_alone: Annotated[Count, Field(exclude_if=not_)] = 0
    """Those of ``refused`` that the other side answered, in shadow: these are failures, not the clients' fault."""

    @model_validator(mode="after")
    def _counts_agree(self) -> Arm:
        if self.errors > self.n:
            raise ValueError(f"errors is {self.errors}, of {self.n} requests")
        if self.labelled > self.due:
            raise ValueError(f"labelled is {self.labelled}, of {self.due} that are due")
        if self.refused_alone > min(self.refused, self.errors):
            raise ValueError(f"refused_alone is {self.refused_alone}, of {self.refused} refused, {self.errors} errors")
        if self.answered < 0:
            raise ValueError(f"errors and refused are {self.errors} and {self.refused}, of {self.n} requests")
        return self

    @property
    def asked(self) -> int:
        """Requests that were its to answer: all but those that break the contract."""
        return self.n - self.refused + self.refused_alone

    @property
    def answered(self) -> int:
        """Requests that got a score."""
        return self.asked - self.errors


class Stratum(FiniteDocument):
    """Log loss of both arms in one window, in which they were split by chance."""

    window: str
    candidate: Moments
    stable: Moments
    candidate_imputed: Imputed | None = None
    stable_imputed: Imputed | None = None
    """Only where some labels of mature requests are not in."""


class Pairs(FiniteDocument):
    """Requests that both sides answered, in shadow."""

    shift: Moments | None
    """Absolute difference of the two scores."""
    loss: Moments | None
    """Candidate's log loss minus stable's on the same request, where the label is in."""
    agreement: Share | None = None
    """Pairs in which both sides decide the same at their own thresholds."""


class SliceEvidence(FiniteDocument):
    """The same numbers for the requests of one slice."""

    candidate: Share | None
    """Failed answers of the candidate's requests."""
    stable: Share | None
    strata: tuple[Stratum, ...] = ()
    pairs: Moments | None = None
    """Candidate's log loss minus stable's on the same request, in shadow."""


class LossBlock(FiniteDocument):
    """Candidate's loss against stable's in one block of event time, of the labels that are in."""

    start: Moment
    requests: Count
    """In shadow those that both answered; else those that either did."""
    labelled: Count
    """Those of ``requests`` whose label is in and that are compared."""
    weight: float = Field(ge=0)
    """What ``difference`` is the sum of: pairs, or n₁n₂ / (n₁ + n₂) of the arms in each window."""
    difference: float
    """Sum of the weighted differences, candidate minus stable."""
    sampling: float = Field(default=0.0, ge=0)
    """Variance of ``difference`` that comes from arms that answered different requests."""
    covariates: dict[str, float] = {}
    """
    Sums of what stable and the labels say alone, by name: over the same pairs, else of stable's means in each window,
    weighted as ``difference``.
    """
    products: dict[str, float] = Field(default={}, exclude_if=not_)
    """
    As ``sampling``, of stable's arm: covariances of its loss with a covariate, ``loss*NAME``, and of two covariates,
    ``NAME*NAME``; where arms answered different requests.
    """
    shift: float | None = Field(default=None, ge=0, exclude_if=is_none)
    """Sum of the distances of both scores, in shadow."""
    same: Count | None = Field(default=None, exclude_if=is_none)
    """Those of ``requests`` that both sides decide alike, in shadow, where both thresholds are known."""

    @model_validator(mode="after")
    def _counts_agree(self) -> LossBlock:
        if self.labelled > self.requests:
            raise ValueError(f"labelled is {self.labelled}, of {self.requests} requests")
        if (self.same or 0) > self.requests:
            raise ValueError(f"same is {self.same}, of {self.requests} requests")
        return self


class Source(FiniteDocument):
    """Where numbers come from, so that anybody can ask again."""

    name: str
    """prediction-log, prometheus, parity."""
    query: str
    """What was asked, as the source understands it."""
    first: Moment | None
    last: Moment | None
    """The time that was asked about."""
    taken: Moment
    """Event time of the asking."""
    n: Count
    """Rows or samples that answered."""


class WrongCells(FiniteDocument):
    """Served cells of one feature that differ from the offline read."""

    feature: str
    different: Count
    view: str | None = None
    """The feature view that owns it, or ``request``; ``None`` where who counted does not say."""
    example: str | None = None
    """One of them: served, and as the training path makes it. Of texts only that they are, since these may be names."""


class Cells(FiniteDocument):
    """Served feature cells against the same cells read offline."""

    compared: Count
    different: Count
    excluded: Count = Field(default=0, exclude_if=not_)
    """Of a sample, those that cannot be compared: the online store could not yet have what the offline read finds, or
    it is not known what it had."""
    worst: str | None = None
    """The feature with most differences."""
    wrong: tuple[WrongCells, ...] = Field(default=(), max_length=WORST_CELLS, exclude_if=not_)
    """The features with most differences, the worst first."""
    other_tables: bool = Field(default=False, exclude_if=not_)
    """Whether the tables were built by other code than those of the model's training frame: then none is compared."""

    @model_validator(mode="after")
    def _counts_agree(self) -> Cells:
        if self.different > self.compared:
            raise ValueError(f"different is {self.different}, of {self.compared} compared cells")
        return self


class Timings(FiniteDocument):
    """Latency in milliseconds: never the same twice, so not part of any digest."""

    candidate: Moments | None = None
    stable: Moments | None = None
    difference: Moments | None = None
    """Candidate's minus stable's on the same request, in shadow."""
    candidate_bins: Histogram | None = None
    stable_bins: Histogram | None = None
    candidate_minutes: MinuteSums | None = None
    stable_minutes: MinuteSums | None = None
    """Of the milliseconds of each minute's answers."""


class ArmMoments(FiniteDocument):
    """One number of both arms."""

    candidate: Moments | None
    stable: Moments | None

    def of(self, side: str) -> Moments | None:
        """Of one of ``SIDES``."""
        return self.candidate if side == "candidate" else self.stable


class Evidence(FiniteDocument):
    """One look."""

    task: str
    environment: str
    rollout: str | None
    stage: str
    step: Count
    since: Moment | None
    now: Moment
    applied: Applied
    candidate: Arm | None
    stable: Arm | None
    foreign: Count
    """Answers on either route by a digest that is not released there."""
    split: tuple[Count, Count]
    """Requests to stable and to the candidate; in shadow: requests that were not mirrored, and those that were."""
    recent: tuple[Count, Count] | None = Field(default=None, exclude_if=is_none)
    """As ``split``, of the requests since the last look; ``None`` where the source cannot tell."""
    strata: tuple[Stratum, ...]
    pairs: Pairs
    skew_n: Count
    skew: dict[str, Annotated[float, Field(ge=0, le=1)]]
    """Divergence of each served feature from the candidate's training profile."""
    cells: Cells | None
    timings: Timings
    slices: dict[str, SliceEvidence] = {}
    """By ``name=value``, for example ``region=north``."""
    measurements: dict[str, ArmMoments] = Field(default={}, exclude_if=not_)
    """What ``sluice.evidence.measurements`` counts besides, by name; left out where that is nothing."""
    block_hours: Annotated[float, Field(gt=0)] | None = Field(default=None, exclude_if=is_none)
    """Length of ``blocks``; ``None`` in documents that count requests alone."""
    blocks: tuple[LossBlock, ...] = Field(default=(), exclude_if=not_)
    """Of the stage, in confirm of canary and confirm together; they begin with the stage, and the last is not over."""
    minutes: Minutes | None = Field(default=None, exclude_if=is_none)
    """Failures by minute; ``None`` in documents that count requests alone."""
    history: LossHistory | None = Field(default=None, exclude_if=is_none)
    """What the candidate's evaluation says of such blocks."""
    sources: tuple[Source, ...] = ()
    problems: tuple[str, ...] = ()
    """What a source could not say, or said badly (down, NaN, several series, …), a line each: one refuses the look."""

    @property
    def arms(self) -> dict[str, Arm]:
        """By ``SIDES``, those that there are."""
        return {side: arm for side, arm in zip(SIDES, (self.candidate, self.stable), strict=True) if arm}

    @property
    def digest(self) -> str:
        """Over all that repeats and that a rule reads: without timings, restarts, label delays and the commit."""
        unread = {"restarts", "hours", "delays"}
        changing: dict[str, Any] = {"timings": True, "applied": {"commit"}, "candidate": unread, "stable": unread}
        return digest_of_value(self.model_dump(mode="json", exclude=changing))
