"""What every stage's section of an online policy is made of: how long, who agrees, and which rules are asked."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

OnlineRole = Literal["success", "guardrail", "deterioration", "limit", "quality"]
Alpha = Annotated[float, Field(gt=0, le=0.2)]
Hours = Annotated[float, Field(ge=0)]
CONTRADICTION = "contradiction"
"""Type of the errors that carry, in their context, the keys that they are ``at`` and the ``fix``."""


class PolicyModel(BaseModel):
    """A part of the policy file: closed, and without NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class OnlineRule(PolicyModel):
    """
    One rule of a stage; which metrics there are, and what each takes, is said by ``sluice.gates.rules``.

    ``success`` (shown better than stable by more than the margin), ``guardrail`` (shown not worse than stable by more
    than the margin) and ``deterioration`` (not shown worse by more than the margin) compare with stable; ``limit``
    bounds the candidate itself; ``quality`` asks whether the comparison can be trusted at all. An interval that ends
    exactly on the bound keeps it: PASS as guardrail and limit, not yet success.
    """

    metric: str
    """What is measured."""
    role: OnlineRole
    direction: Literal["lower", "higher"] | None = None
    """Which way is good, said aloud; it must be what the metric's rule says."""
    margin: Annotated[float, Field(ge=0)] | None = None
    """In the metric's own unit."""
    relative_margin: Annotated[float, Field(gt=0)] | None = None
    """As a share of stable's value: 0.5 allows half as much again."""
    limit: float | None = None
    """For ``limit`` and ``quality``: the worst value allowed."""
    alpha: Alpha | None = None
    """Error of its interval over all looks together; ``online.alpha`` where it is not said."""
    beta: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Chance that a candidate as good as stable is not through by the n that an INCONCLUSIVE guardrail foretells."""
    per_slice: bool = False
    """Ask this of every slice that has ``minimum_n`` observations."""
    minimum_n: Annotated[int, Field(ge=30)] | None = None
    """Observations before it says anything but FAIL; the stage's where it is not said."""
    stop_at: Annotated[int, Field(ge=1)] | None = None
    """Minutes of the stage in which the candidate alone failed, from which on it FAILs whatever the interval says."""
    maximum_hours: Annotated[float, Field(gt=0)] | None = None
    """Event hours in the stage that it may stay INCONCLUSIVE; the stage's where it is not said."""


class TimedStage(PolicyModel):
    """How long a stage lasts, and who agrees to the next step."""

    soak_hours: Hours = 0
    """Event hours that the stage (in a canary: each step) lasts at least, however good the numbers."""
    maximum_hours: float = Field(gt=0)
    """Event hours in this stage or step after which INCONCLUSIVE ends it: timed out, back to stable, no hold."""
    approval: bool = False
    """A PASS pauses the rollout until a person approves the next step."""


class CountedStage(PolicyModel):
    """How many requests a stage needs."""

    minimum_n: int = Field(ge=30)
    """Requests of the candidate before any verdict but FAIL."""


class OnlineStage(TimedStage, CountedStage):
    """What all stages have that judge traffic."""

    looks: Annotated[int, Field(ge=2, le=20)] | None = None
    """
    Ask means at this many looks only, evenly over ``maximum_hours``: they need less than at every look, if about as
    many requests come between any two of them. Rules that count are asked at every look all the same.
    """
    rules: tuple[OnlineRule, ...] = Field(min_length=1)
