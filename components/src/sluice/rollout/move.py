"""Where a rollout goes next: the steps of its stage, then the stages of its strategy."""

from __future__ import annotations

from typing import Any, NamedTuple

from sluice.gates.online_policy import Online
from sluice.stages.registry import FIRST_MODEL, STAGES, strategy_at, strategy_of
from sluice.stages.stage import CANDIDATE_ROLE, RolloutStage, Traffic, arm_in


class Move(NamedTuple):
    """A step of a rollout: into a stage, or within it."""

    stage: RolloutStage[Any]
    step: int
    traffic: Traffic


def beginning(online: Online, *, first_model: bool) -> Move:
    """The first step of a rollout."""
    strategy = FIRST_MODEL if first_model else strategy_of(online)
    if strategy is None:
        raise AssertionError("a policy without a strategy was read")
    return _entry(strategy.stages[0], online)


def following(online: Online, stage: str, weight: int) -> Move | None:
    """
    The step after a stage at a candidate's weight, by the policy of now; ``None`` where the candidate is stable then.

    Within a stage it is the first step above that weight, which is the one that follows unless the policy's steps were
    changed on the way.
    """
    here = STAGES[stage]
    for step, traffic in enumerate(here.steps(here.section_of(online))):
        if arm_in(CANDIDATE_ROLE, traffic).weight > weight:
            return Move(here, step, traffic)
    strategy = strategy_at(here, online)
    if strategy is None:
        raise AssertionError(f"a stage passed that the policy does not take: {stage}")
    after = strategy.stages[strategy.stages.index(here) + 1 :]
    return _entry(after[0], online) if after else None


def _entry(stage: RolloutStage[Any], online: Online) -> Move:
    return Move(stage, 0, stage.steps(stage.section_of(online))[0])
