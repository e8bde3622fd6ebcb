"""What earlier requests say of losses by block of event time; fixed before the first look of a rollout."""

from __future__ import annotations

from operator import not_
from typing import Annotated

from pydantic import Field, model_validator

from sluice.documents.event_time import Moment
from sluice.documents.model import FiniteDocument


def _is_none(value: object) -> bool:
    return value is None


Variance = Annotated[float, Field(ge=0)]
DesignEffect = Annotated[float, Field(ge=1)]


def product_name(first: str, second: str) -> str:
    """How blocks call what two covariates, or the loss and one, have in common."""
    return f"{first}*{second}"


class ArmVariances(FiniteDocument):
    """Of one request, where arms answer different requests: what their sampling adds."""

    candidate: Variance
    """Of the candidate's loss."""
    stable: Variance
    """Of stable's."""
    adjusted: Variance
    """Of stable's loss plus slopes · covariates."""


class LossAdjustment(FiniteDocument):
    """How blocks of a loss difference go with covariates, and the long-run means of these."""

    names: tuple[str, ...] = Field(min_length=1)
    slopes: tuple[float, ...]
    means: tuple[float, ...]
    mean_error: Variance
    """Variance of slopes · means: how well history knows them."""
    variance: Variance
    """Of an adjusted influence, long-run and widened."""
    arms: ArmVariances | None = Field(default=None, exclude_if=_is_none)
    """``None`` in histories of before: then nothing is adjusted where arms answer different requests."""

    @model_validator(mode="after")
    def _one_a_name(self) -> LossAdjustment:
        if not len(self.names) == len(self.slopes) == len(self.means):
            raise ValueError(f"has {len(self.names)} names, {len(self.slopes)} slopes and {len(self.means)} means")
        return self


class SliceEffect(FiniteDocument):
    """How far requests of one slice depend on each other."""

    slice: str
    """``name=value``, as the evidence calls it."""
    design_effect: DesignEffect


class LossHistory(FiniteDocument):
    """Candidate's loss minus stable's on earlier requests that both answered, in blocks of one length."""

    stable: str | None = None
    """Digest of the model that the candidate was compared with."""
    hours: float = Field(gt=0)
    blocks: int = Field(ge=1)
    mean_count: float = Field(gt=0)
    """Requests a block."""
    variance: Variance
    """Of a block's influence on the mean, long-run and widened."""
    design_effect: DesignEffect
    """How many requests of a block tell as much as one that is independent of all others."""
    slices: tuple[SliceEffect, ...] = Field(default=(), exclude_if=not_)
    """The same of each slice's own blocks; without those that history cannot tell of."""
    adjustment: LossAdjustment | None = None
    left_out: tuple[str, ...] = ()
    """Covariates that do not vary, or are too many for so few blocks."""
    shift_variance: Variance | None = None
    """As ``variance``, of the mean distance of both scores."""
    same_variance: Variance | None = None
    """As ``variance``, of the share of requests that both decide alike."""
    first: Moment | None = Field(default=None, exclude_if=_is_none)
    last: Moment | None = Field(default=None, exclude_if=_is_none)
    """Beginning and end of the time that it is of; ``None`` where nobody says."""

    def effect_of(self, part: str) -> float:
        """
        Design effect of a slice.

        Of one that history cannot tell of it is the whole's: never less than is to be expected, since a slice has
        fewer requests a block.
        """
        return next((one.design_effect for one in self.slices if one.slice == part), self.design_effect)
