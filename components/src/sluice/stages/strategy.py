"""
Strategies of a rollout: which stages it takes, in order. The policy takes one by the sections that it has.

    no stable ─► bootstrap ──────────────────────────────────────────────────────┬─► stable
    stable ────► shadow ─► canary step 0 … n, or preview (blue/green) ─► confirm ─┘
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic import BaseModel

from sluice.stages.bootstrap import BOOTSTRAP
from sluice.stages.canary import CANARY
from sluice.stages.confirm import CONFIRM
from sluice.stages.preview import PREVIEW
from sluice.stages.registry import STAGES
from sluice.stages.shadow import SHADOW
from sluice.stages.stage import CANDIDATE_ROLE, RolloutStage, Traffic, arm_in


class Strategy(NamedTuple):
    """A sequence of stages; after the last one the candidate is stable."""

    name: str
    stages: tuple[RolloutStage[Any], ...]

    @property
    def sections(self) -> tuple[str | None, ...]:
        """What a policy that takes it must have."""
        return tuple(stage.section for stage in self.stages)


FIRST_MODEL = Strategy("first model", (BOOTSTRAP,))
STRATEGIES = (
    Strategy("shadow", (SHADOW, CONFIRM)),
    Strategy("canary", (CANARY, CONFIRM)),
    Strategy("blue/green", (PREVIEW, CONFIRM)),
    Strategy("shadow, then canary", (SHADOW, CANARY, CONFIRM)),
    Strategy("shadow, then blue/green", (SHADOW, PREVIEW, CONFIRM)),
)
"""With a stable model; each has sections of its own."""


class Move(NamedTuple):
    """A step of a rollout: into a stage, or within it."""

    stage: RolloutStage[Any]
    step: int
    traffic: Traffic


def strategy_of(online: BaseModel) -> Strategy | None:
    """The strategy whose sections are those of a policy's ``online``; ``None`` where there is none such."""
    keys = {stage.section for stage in STAGES.values() if stage.section_of(online)}
    return next((one for one in STRATEGIES if set(one.sections) == keys), None)


def beginning(online: BaseModel, *, first_model: bool) -> Move:
    """The first step of a rollout."""
    strategy = FIRST_MODEL if first_model else strategy_of(online)
    if strategy is None:
        raise AssertionError("a policy without a strategy was read")
    return _entry(strategy.stages[0], online)


def following(online: BaseModel, stage: str, weight: int) -> Move | None:
    """
    The step after a stage at a candidate's weight, by the policy of now; ``None`` where the candidate is stable then.

    Within a stage it is the first step above that weight, which is the one that follows unless the policy's steps were
    changed on the way.
    """
    here = STAGES[stage]
    for step, traffic in enumerate(here.steps(here.section_of(online))):
        if arm_in(CANDIDATE_ROLE, traffic).weight > weight:
            return Move(here, step, traffic)
    strategy = FIRST_MODEL if here in FIRST_MODEL.stages else strategy_of(online)
    stages = strategy.stages if strategy else ()
    after = stages[stages.index(here) + 1 :] if here in stages else ()
    return _entry(after[0], online) if after else None


def _entry(stage: RolloutStage[Any], online: BaseModel) -> Move:
    return Move(stage, 0, stage.steps(stage.section_of(online))[0])
