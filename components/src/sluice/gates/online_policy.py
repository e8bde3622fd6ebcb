"""
The part of the gate policy that speaks to live traffic: stages in order, and in each the rules that every look asks.

    shadow ──► canary steps | blue/green ──► confirm

Each stage but confirm may be left out, so that shadow then canary, canary alone, blue/green alone and shadow then
blue/green are all one shape.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from sluice.gates.roles import OnlineRole

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
    maximum_hours: Annotated[float, Field(gt=0)] | None = None
    """Event hours in the stage that it may stay INCONCLUSIVE; the stage's where it is not said."""


class OnlineStage(PolicyModel):
    """What all stages have."""

    minimum_n: int = Field(ge=30)
    """Requests of the candidate before any verdict but FAIL."""
    soak_hours: Hours = 0
    """Event hours that the stage (in a canary: each step) lasts at least, however good the numbers."""
    maximum_hours: float = Field(gt=0)
    """Event hours in this stage or step after which INCONCLUSIVE ends it: timed out, back to stable, no hold."""
    approval: bool = False
    """A PASS pauses the rollout until a person approves the next step."""
    looks: Annotated[int, Field(ge=2, le=20)] | None = None
    """
    Ask means at this many looks only, evenly over ``maximum_hours``: they need less than at every look, if about as
    many requests come between any two of them. Rules that count are asked at every look all the same.
    """
    rules: tuple[OnlineRule, ...] = Field(min_length=1)


class ShadowStage(OnlineStage):
    """The candidate answers copies of requests; nobody sees its answers."""

    mirror_percent: int = Field(default=100, ge=1, le=100)


class CanaryStage(OnlineStage):
    """The candidate answers a growing share."""

    steps: tuple[Annotated[int, Field(ge=1, le=99)], ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _rising(self) -> CanaryStage:
        if list(self.steps) != sorted(set(self.steps)):
            raise PydanticCustomError(
                CONTRADICTION,
                "{rule}",
                {"at": ("steps",), "rule": f"steps must rise, got {list(self.steps)}", "fix": "sort them, each once"},
            )
        return self


class BlueGreenStage(PolicyModel):
    """
    The candidate is started beside stable without any traffic, then answers everything at once; ``confirm`` is the
    window in which the old side is kept warm.
    """

    soak_hours: Hours = 0
    """Event hours from the start of its servers to the switch, at least."""
    maximum_hours: float = Field(gt=0)
    """Event hours after which servers that never became ready end the rollout: timed out."""
    approval: bool = False
    """A person must approve the switch."""


class ConfirmStage(OnlineStage):
    """The candidate answers everything, the old side stays warm; labels that mature confirm it or bring it back."""

    soak_hours: Hours = 0
    """The bake time: event hours that the old side stays warm at least."""


class Online(PolicyModel):
    """The stages after the offline gate, in order."""

    alpha: Alpha = 0.05
    """Error of each rule's interval, over all looks together."""
    look_every_hours: float = Field(default=12, gt=0)
    evidence_hours: float | None = Field(default=None, gt=0)
    """Age from which evidence is too old to be read; by default the time between two looks."""
    label_maturity_hours: float = Field(default=6, ge=0)
    """Age at which a request's label counts as due."""
    shadow: ShadowStage | None = None
    canary: CanaryStage | None = None
    blue_green: BlueGreenStage | None = None
    confirm: ConfirmStage

    @model_validator(mode="after")
    def _one_way(self) -> Online:
        if self.canary and self.blue_green:
            raise ValueError("has both canary and blue_green; a rollout takes one of them")
        if not (self.shadow or self.canary or self.blue_green):
            raise ValueError("has no stage before confirm; add shadow, canary or blue_green")
        return self

    @property
    def stages(self) -> dict[str, OnlineStage]:
        """The stages that judge traffic, by name, in order."""
        stages = {"shadow": self.shadow, "canary": self.canary, "confirm": self.confirm}
        return {name: stage for name, stage in stages.items() if stage}
