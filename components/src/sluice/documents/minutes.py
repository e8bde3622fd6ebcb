"""How requests and their failures lie in minutes of event time."""

from __future__ import annotations

from pydantic import Field, model_validator

from sluice.documents.model import Count, FiniteDocument, is_none


class MinuteSums(FiniteDocument):
    """
    How a number comes together by minute of event time: sums over minutes, each with a count n and a sum x.

    They say how far requests of one minute share their fate: ``sluice.gates.minutes``.
    """

    counts: float = Field(ge=0)
    """Σ n²."""
    values: float = Field(ge=0)
    """Σ x²."""
    products: float
    """Σ x · n."""


class RefusalCounts(FiniteDocument):
    """One arm's refusals by minute, in all minutes that have a request."""

    minutes: Count
    requests: Count
    """With those refused."""
    refused: Count
    sums: MinuteSums
    """Of ``refused``."""

    @model_validator(mode="after")
    def _counts_agree(self) -> RefusalCounts:
        if self.refused > self.requests:
            raise ValueError(f"refused is {self.refused}, of {self.requests} requests")
        return self


class MinuteCounts(FiniteDocument):
    """One arm's requests by minute, those of minutes in which both sides failed apart."""

    minutes: Count
    """Minutes that have a request, without those in which both sides failed."""
    requests: Count
    errors: Count
    sums: MinuteSums
    """Of ``errors``."""
    failing: Count
    """Of ``minutes``, those in which this side failed: a tenth of its requests, and two at least."""
    path_requests: Count = 0
    path_errors: Count = 0
    """In the minutes in which both sides failed."""
    refusals: RefusalCounts | None = Field(default=None, exclude_if=is_none)
    """``None`` where nothing was refused, and in documents that count refusals by request alone."""

    @model_validator(mode="after")
    def _counts_agree(self) -> MinuteCounts:
        if self.errors > self.requests or self.path_errors > self.path_requests:
            raise ValueError(f"errors is {self.errors}, of {self.requests} requests")
        if self.failing > self.minutes:
            raise ValueError(f"failing is {self.failing}, of {self.minutes} minutes")
        return self


class Minutes(FiniteDocument):
    """Both arms' requests of the stage by minute of event time."""

    candidate: MinuteCounts | None
    stable: MinuteCounts | None
    both_failing: Count = 0
    """
    Minutes in which both sides failed, or that are in ten minutes in which both did: what they share is to blame, the
    path.
    """
