"""
What stages and strategies there are: one more of either is its own line here.

    no stable ─► bootstrap ──────────────────────────────────────────────────────┬─► drain ─► stable
    stable ────► shadow ─► canary step 0 … n, or preview (blue/green) ─► confirm ─┘

A rollout that goes back drains too.

A stage that the policy speaks of by a key of its own has a line among the sections too.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic import BaseModel

from sluice.stages.bootstrap import BOOTSTRAP
from sluice.stages.canary import CANARY, CanaryStage
from sluice.stages.confirm import CONFIRM, ConfirmStage
from sluice.stages.preview import PREVIEW, BlueGreenStage
from sluice.stages.resting import DRAIN, EMPTY, STABLE
from sluice.stages.section import PolicyModel
from sluice.stages.shadow import SHADOW, ShadowStage
from sluice.stages.stage import RolloutStage

STAGES: dict[str, RolloutStage[Any]] = {
    stage.name: stage for stage in (EMPTY, BOOTSTRAP, SHADOW, PREVIEW, CANARY, CONFIRM, DRAIN, STABLE)
}


class StageSections(PolicyModel):
    """The sections of an online policy, one a stage."""

    shadow: ShadowStage | None = None
    canary: CanaryStage | None = None
    blue_green: BlueGreenStage | None = None
    confirm: ConfirmStage


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
"""Where a model is stable; no two take the same sections."""


def strategy_of(online: BaseModel) -> Strategy | None:
    """The strategy whose sections are those of a policy's ``online``; ``None`` where there is none such."""
    keys = {stage.section for stage in STAGES.values() if stage.section_of(online)}
    return next((one for one in STRATEGIES if set(one.sections) == keys), None)


def strategy_at(stage: RolloutStage[Any], online: BaseModel) -> Strategy | None:
    """The strategy of a rollout in a stage, by the policy of now; ``None`` where that does not take the stage."""
    strategy = FIRST_MODEL if stage in FIRST_MODEL.stages else strategy_of(online)
    return strategy if strategy and stage in strategy.stages else None
