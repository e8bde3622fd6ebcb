"""
The part of the gate policy that speaks to live traffic: stages in order, and in each the rules that every look asks.

    shadow ──► canary steps | blue/green ──► confirm

Each stage but confirm may be left out, so that shadow then canary, canary alone, blue/green alone and shadow then
blue/green are all one shape. ``sluice.stages`` has the sections, one a stage, and the strategies that they make.
"""

from __future__ import annotations

from operator import not_

from pydantic import Field, model_validator

from sluice.stages.registry import STAGES, STRATEGIES, StageSections, strategy_of
from sluice.stages.section import Alpha, OnlineStage, PolicyModel, TimedStage


class LookTiming(PolicyModel):
    """When a look is taken, and how it errs."""

    alpha: Alpha = 0.05
    """Error of each rule's interval, over all looks together."""
    look_every_hours: float = Field(default=12, gt=0)
    evidence_hours: float | None = Field(default=None, gt=0)
    """Age from which evidence is too old to be read; by default the time between two looks."""
    label_maturity_hours: float = Field(default=6, ge=0)
    """Age at which a request's label counts as due."""
    block_hours: float | None = Field(default=None, gt=0)
    """
    Length of a block of event time: losses are compared by block, since requests of one time are not independent. Left
    out, it is the shortest that depends little on its neighbours in the history of the pair, and a day without one.
    """
    design_effect: float | None = Field(default=None, ge=1)
    """
    How many requests tell as much as one that is independent of all others, for a model without a history of blocks;
    1 says that they are independent. Left out, such a model waits for blocks of its own. Of failures and latency, how
    many do so at most; left out, their evidence must have minutes.
    """

    reserve: float = Field(default=0, ge=0, lt=1, exclude_if=not_)
    """
    Share of a ``log_loss`` guardrail's margin that a PASS by blocks leaves free: the weeks to come may be worse than
    any that history and the rollout have seen.
    """

    def margin_to_show(self, margin: float) -> float:
        """What a PASS by blocks keeps, of a guardrail with this margin."""
        return (1 - self.reserve) * margin

    @property
    def oldest_hours(self) -> float:
        """Age up to which evidence is read, which is what came since the last look."""
        return self.evidence_hours or self.look_every_hours


class Online(StageSections, LookTiming):
    """The stages after the offline gate, in order."""

    @model_validator(mode="after")
    def _one_strategy(self) -> Online:
        if strategy_of(self) is None:
            every = "; ".join(one.name for one in STRATEGIES)
            raise ValueError(f"has the stages {' and '.join(self.sections)}; no rollout takes just these, but: {every}")
        return self

    @property
    def sections(self) -> dict[str, TimedStage]:
        """The sections of its stages, by key."""
        return {key: section for key in StageSections.model_fields if (section := getattr(self, key))}

    @property
    def stages(self) -> dict[str, OnlineStage]:
        """The stages whose rules judge requests, by name, in order."""
        asking = (stage for stage in STAGES.values() if stage.judge in ("rules", "servers"))
        sections = {stage.name: stage.section_of(self) for stage in asking}
        return {name: section for name, section in sections.items() if section and section.rules}
